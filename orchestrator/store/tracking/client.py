"""MLflow as the store uses it: one SQLite file, made whole or not at all, and few transactions.

Or a server, where the home names one: see tracking_server.py. A fresh database takes MLflow seconds and
some fifty steps, and is of no use if they are cut short: it is made under another name and takes its own when
it is complete. It runs in write-ahead mode, where a transaction is one flush to disk and readers wait for
nobody; closed, it is one file again.
"""

import contextlib
import errno
import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import OperationalError

from orchestrator.errors import HdsweepError, chain
from orchestrator.process.stopping import Say
from orchestrator.store.home.home import Home
from orchestrator.store.tracking import server as tracking_server
from orchestrator.store.tracking.database import (
    Known,
    Runs,
    compact,
    database_uri,
    experiment_name,
    pragma,
    read_runs,
    renamed_experiment,
    unreadable,
)
from orchestrator.store.tracking.refusals import code_of, refused

# MLflow 3 opens an experiment among traces and prompts unless it is told that models are trained in it.
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "One run per study and scale, its trainings below it, and one summary per "
    "cell of its table. `report.html` among a study's artifacts is where to begin.",
}
BESIDE = ("-journal", "-wal", "-shm")  # What SQLite keeps next to a database in use.
# A full disk or quota; a disk or a file server that broke.
NO_LONGER_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)


def create(home: Home) -> None:
    """Make the database with its tables and our experiment, unless there is one; no server's."""
    if home.tracking_uri:
        return
    if home.database.is_file():
        return
    for leftover in (*home.path.glob("mlflow-*.new*"), *_beside(home)):
        leftover.unlink(missing_ok=True)
    # A name of its own: MLflow keeps its connections by name for as long as the process lives.
    fresh = home.path / f"mlflow-{time.time_ns()}.new"
    pragma(fresh, "journal_mode=WAL")
    fresh.chmod(0o600)
    _quiet()
    client = MlflowClient(tracking_uri=database_uri(fresh))
    create_experiment(client, home)
    _let_go(fresh)
    compact(fresh)
    fresh.rename(home.database)


def create_experiment(client: MlflowClient, home: Home) -> str:
    """Make our experiment and return its id."""
    return str(
        client.create_experiment(
            experiment_name(home),
            artifact_location=home.artifact_location,
            tags=EXPERIMENT_TAGS,
        )
    )


def our_experiment(client: MlflowClient, home: Home, tell: Say) -> tuple[str, bool]:
    """Return the id of our experiment, as it was if somebody changed it, and whether it was there.

    Args:
        tell: takes a line about what was found.
    """
    found, name = _found(client, home), experiment_name(home)
    if found is None:
        return create_experiment(client, home), False
    if found.lifecycle_stage == LifecycleStage.DELETED:
        client.restore_experiment(found.experiment_id)
        tell(f"the experiment `{found.name}` had been deleted in MLflow: restored with its runs")
    if found.name != name:
        client.rename_experiment(found.experiment_id, name)
        tell(f"the experiment `{name}` had been renamed in MLflow: `{found.name}` no more")
    return str(found.experiment_id), True


def _found(client: MlflowClient, home: Home) -> Experiment | None:
    """Return our experiment, deleted or not, under its own name or what somebody called it."""
    found = client.get_experiment_by_name(experiment_name(home))
    if found is not None:
        return found
    if home.tracking_uri:
        return tracking_server.renamed(client, experiment_name(home), home.artifact_location)
    renamed = renamed_experiment(home)
    return client.get_experiment(renamed) if renamed else None


def connect(home: Home) -> MlflowClient:
    """Return a client of the home's database, or of the server that it names.

    Raises:
        InputError: if it is not a database that MLflow can read, or the server does not answer.
    """
    _quiet()
    if home.tracking_uri:
        return tracking_server.connect(home.tracking_uri)
    try:
        client = MlflowClient(tracking_uri=database_uri(home.database))
        client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise unreadable(home, error) from error
    except Exception as error:
        # SQLAlchemy's errors, without importing it here for their names.
        if type(error).__module__.startswith("sqlalchemy"):
            raise unreadable(home, error) from error
        raise
    return client


def close(home: Home) -> None:
    """Bring everything into the one file; a server needs nothing."""
    if not home.tracking_uri:
        # Full disk or not: what is committed is safe without it.
        with contextlib.suppress(sqlite3.Error):
            compact(home.database)


@contextlib.contextmanager
def failures_told(home: Home) -> Iterator[None]:
    """Tell in a line that the home or its server failed in the middle, whatever wraps the error.

    Raises:
        HdsweepError: if one did; what was stored until then is safe.
    """
    try:
        yield
    except HdsweepError:
        raise
    except Exception as error:
        for inner in chain(error):
            if isinstance(inner, HdsweepError):
                raise inner from error
            if isinstance(inner, OperationalError):
                inner = inner.orig or inner  # noqa: PLW2901
            if isinstance(inner, sqlite3.Error) or _errno(inner) in NO_LONGER_WRITABLE:
                raise HdsweepError(
                    f"home folder `{home.path}` could not be written to any more: {inner}",
                    hint="once it can, the same command goes on where it stopped",
                ) from error
        if code_of(error) is not None:
            raise refused(error) from error
        raise


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def set_aside(home: Home) -> None:
    """Move the database out of the way, keeping what may be of use to its owner.

    On a server it is our experiment that takes another name.
    """
    if home.tracking_uri:
        client = connect(home)
        found = client.get_experiment_by_name(experiment_name(home))
        if found is not None:
            if found.lifecycle_stage == LifecycleStage.DELETED:  # MLflow renames no such thing.
                client.restore_experiment(found.experiment_id)
            client.rename_experiment(
                found.experiment_id, f"{found.name} {tracking_server.SET_ASIDE} {time.time_ns()}"
            )
        return
    _let_go(home.database)
    stem = home.path / f"mlflow.damaged-{time.time_ns()}"
    if home.database.exists():
        home.database.rename(stem)
    for path in _beside(home):
        if path.stat().st_size and not path.name.endswith("-shm"):
            path.rename(f"{stem}{path.name.removeprefix(home.database.name)}")
        else:
            path.unlink()


def read(home: Home) -> Runs | None:
    """Return the runs of a home that a server keeps; None if it knows of none.

    Raises:
        InputError: if the server does not answer.
    """
    client = connect(home)
    found = _found(client, home)
    return every_run(home, client, found.experiment_id) if found else None


def every_run(home: Home, client: MlflowClient, experiment: str) -> Runs:
    """Return the runs of our experiment, of which the id is given."""
    if not home.tracking_uri:
        return read_runs(home, experiment_name(home)) or Runs([], set())
    runs = tracking_server.every_run(client, experiment)
    deleted = {run.info.run_id for run in runs if tracking_server.is_deleted(run)}
    return Runs([Known.of(run) for run in runs if run.info.run_id not in deleted], deleted)


def _beside(home: Home) -> list[Path]:
    named = (home.path / f"{home.database.name}{end}" for end in BESIDE)
    return [path for path in named if path.exists()]


def _let_go(database: Path) -> None:
    """Close the connections that MLflow keeps; they would follow a file that is renamed."""
    engine = SqlAlchemyStore._engine_map.get(database_uri(database))
    if engine is not None:
        engine.dispose()


def _quiet() -> None:
    """Keep MLflow from announcing every table that it makes."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It prints a traceback of every error of the database, which we tell of in a line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
