"""The schema of a home's database: brought to that of the MLflow that is installed, on a copy.

MLflow refuses a database that an older release of it wrote until somebody upgrades it by hand. A
migration that is cut short leaves a database that no release reads, so it is done on a copy, which takes
the place of the original when it is whole; the original is kept beside it.
"""

import contextlib
import sqlite3
import time
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.store.home.home import Home
from orchestrator.store.tracking.database import compact, connected, database_uri, unreadable


def upgrade(home: Home) -> str | None:
    """Bring the database of a home to the schema of the MLflow that is installed.

    Returns:
        What there is to tell of it; None if nothing had to be done. A server's is its owner's affair.

    Raises:
        InputError: if a newer MLflow wrote it, or it cannot be read or written.
    """
    if home.tracking_uri or not home.database.is_file():
        return None
    from mlflow.store.db.utils import _get_latest_schema_revision

    try:
        found, wanted = _revision(home.database), _get_latest_schema_revision()
        if found is None or found == wanted:
            return None
        _require_older(home, found)
        kept = home.path / f"mlflow.schema-{found}.db"
        fresh = home.path / f"mlflow-{time.time_ns()}.new"
        _copy(home.database, kept)
        _copy(home.database, fresh)
        _migrate(fresh)
        fresh.rename(home.database)
    except sqlite3.Error as error:
        raise unreadable(home, error) from error
    return (
        f"the database of home `{home.path}` is of the schema of this MLflow now; as it was before, it "
        f"is kept as {kept.name}"
    )


def _revision(database: Path) -> str | None:
    with contextlib.closing(connected(database)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return None  # None of MLflow's, which connecting to it tells.
    return None if row is None else str(row[0])


def _require_older(home: Home, found: str) -> None:
    """Raise an InputError if the schema is none that this MLflow knows how to leave."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(database_uri(home.database)))
    if found not in {script.revision for script in scripts.walk_revisions()}:
        raise InputError(
            f"the database of home `{home.path}` has the schema {found} of a newer MLflow",
            hint="install that MLflow, or choose another folder with --home",
        )


def _copy(source: Path, target: Path) -> None:
    with (
        contextlib.closing(connected(source)) as one,
        contextlib.closing(sqlite3.connect(target)) as other,
    ):
        one.backup(other)
    target.chmod(0o600)


def _migrate(database: Path) -> None:
    from mlflow.store.db.utils import _upgrade_db
    from sqlalchemy import create_engine

    engine = create_engine(database_uri(database))
    try:
        _upgrade_db(engine)
    finally:
        engine.dispose()
    compact(database)
