"""MLflow as the store uses it: one SQLite file, made whole or not at all, and few transactions.

Or a server, where the home names one: see tracking_server.py. A fresh database takes MLflow seconds and
some fifty steps, and is of no use if they are cut short: it is made under another name and takes its own when
it is complete. It runs in write-ahead mode, where a transaction is one flush to disk and readers wait for
nobody; closed, it is one file again.
"""

import contextlib
import errno
import logging
import math
import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlParam, SqlRun, SqlTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from sqlalchemy import create_engine, select
from sqlalchemy.exc import OperationalError

from orchestrator import tracking_server
from orchestrator.errors import HdsweepError, InputError, chain
from orchestrator.home import Home

EXPERIMENT = "hdsweep"
# MLflow 3 opens an experiment among traces and prompts unless it is told that models are trained in it.
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "One run per study and scale, its trainings below it, and one summary per "
    "cell of its table. `report.html` among a study's artifacts is where to begin.",
}
BESIDE = ("-journal", "-wal", "-shm")  # What SQLite keeps next to a database in use.
PATIENCE_S = 20
# A full disk or quota; a disk or a file server that broke.
NO_LONGER_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)


@dataclass(frozen=True)
class Known:
    """One run of the database, as this driver last read or left it."""

    run_id: str
    name: str
    status: str
    started_ms: int
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    """The last value of each."""
    has_params: bool

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return what matters of MLflow's own record."""
        return cls(
            run_id=run.info.run_id,
            name=run.info.run_name,
            status=run.info.status,
            started_ms=run.info.start_time,
            tags=dict(run.data.tags),
            metrics=dict(run.data.metrics),
            has_params=bool(run.data.params),
        )

    def now(
        self,
        *,
        status: str | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> Self:
        """Return the run after these were written; saves reading it back."""
        return replace(
            self,
            status=status or self.status,
            tags={**self.tags, **(tags or {})},
            metrics={**self.metrics, **(metrics or {})},
        )


def create(home: Home) -> None:
    """Make the database with its tables and our experiment, unless there is one; no server's."""
    if home.tracking_uri:
        return
    if home.database.is_file():
        home.database.chmod(0o600)
        return
    for leftover in (*home.path.glob("mlflow-*.new*"), *_beside(home)):
        leftover.unlink(missing_ok=True)
    # A name of its own: MLflow keeps its connections by name for as long as the process lives.
    fresh = home.path / f"mlflow-{time.time_ns()}.new"
    _pragma(fresh, "journal_mode=WAL")
    fresh.chmod(0o600)
    _quiet()
    client = MlflowClient(tracking_uri=_uri(fresh))
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


def connect(home: Home) -> MlflowClient:
    """Return a client of the home's database, or of the server that it names.

    Raises:
        InputError: if it is not a database that MLflow can read, or the server does not answer.
    """
    _quiet()
    if home.tracking_uri:
        return tracking_server.connect(home.tracking_uri)
    try:
        client = MlflowClient(tracking_uri=_uri(home.database))
        client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise _unreadable(home, error) from error
    except Exception as error:
        # SQLAlchemy's errors, without importing it here for their names.
        if type(error).__module__.startswith("sqlalchemy"):
            raise _unreadable(home, error) from error
        raise
    return client


def experiment_name(home: Home) -> str:
    """Return what a home's experiment is called: on a server, which has others too, by the home."""
    if not home.tracking_uri:
        return EXPERIMENT
    place = home.artifact_location.removeprefix("file://").removesuffix("/artifacts")
    return f"{EXPERIMENT} {place}"


def close(home: Home) -> None:
    """Bring everything into the one file; a server needs nothing."""
    if not home.tracking_uri:
        # Full disk or not: what is committed is safe without it.
        with contextlib.suppress(sqlite3.Error):
            compact(home.database)


def require_writable(home: Home) -> None:
    """Wait a while for whoever writes to the database, and raise an InputError if that takes long.

    Another sweep is refused before, by the lock of the home. This is for those who open the file by
    other means: hours of training must not end at the first thing that is to be written down.
    """
    if home.tracking_uri:
        return
    try:
        with contextlib.closing(_connected(home.database)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.Error as error:
        raise _unreadable(home, error) from error


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
            if isinstance(inner, tracking_server.ServerError):
                raise inner from error
            if isinstance(inner, OperationalError):
                inner = inner.orig or inner  # noqa: PLW2901
            if isinstance(inner, sqlite3.Error) or _errno(inner) in NO_LONGER_WRITABLE:
                raise HdsweepError(
                    f"home folder `{home.path}` could not be written to any more: {inner}",
                    hint="once it can, the same command goes on where it stopped",
                ) from error
        raise


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def compact(database: Path) -> None:
    """Bring everything into the one file, which can then be copied alone."""
    _pragma(database, "wal_checkpoint(TRUNCATE)")


def set_aside(home: Home) -> None:
    """Move the database out of the way, keeping what may be of use to its owner.

    On a server it is our experiment that takes another name.
    """
    if home.tracking_uri:
        client = connect(home)
        found = client.get_experiment_by_name(experiment_name(home))
        if found is not None:
            client.rename_experiment(
                found.experiment_id, f"{found.name} set aside {time.time_ns()}"
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


def every_run(home: Home, client: MlflowClient, experiment: str) -> tuple[list[Known], set[str]]:
    """Return the runs, newest first, and the ids of those that somebody deleted in the UI."""
    if not home.tracking_uri:
        return _every_run_of_database(home, experiment)
    runs = tracking_server.every_run(client, experiment)
    deleted = {run.info.run_id for run in runs if tracking_server.is_deleted(run)}
    return [Known.of(run) for run in runs if run.info.run_id not in deleted], deleted


def _every_run_of_database(home: Home, experiment: str) -> tuple[list[Known], set[str]]:
    """Return what `every_run` does.

    Read column by column through MLflow's own models: `search_runs` makes an object of every
    parameter, which of ten thousand runs takes twenty seconds.
    """
    engine = create_engine(_uri(home.database))
    mine = select(SqlRun.run_uuid).where(SqlRun.experiment_id == int(experiment))
    columns = (SqlRun.run_uuid, SqlRun.name, SqlRun.status, SqlRun.start_time)
    of_runs = select(*columns, SqlRun.lifecycle_stage).where(SqlRun.run_uuid.in_(mine))
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    metrics: dict[str, dict[str, float]] = defaultdict(dict)
    with engine.connect() as connection:
        rows = connection.execute(of_runs.order_by(SqlRun.start_time.desc())).all()
        of_tags = select(SqlTag.run_uuid, SqlTag.key, SqlTag.value)
        for run, name, value in connection.execute(of_tags.where(SqlTag.run_uuid.in_(mine))):
            tags[run][name] = value
        last = SqlLatestMetric
        of_metrics = select(last.run_uuid, last.key, last.value, last.is_nan)
        for run, name, value, nan in connection.execute(of_metrics.where(last.run_uuid.in_(mine))):
            metrics[run][name] = math.nan if nan else value
        with_params = set(connection.scalars(select(SqlParam.run_uuid).distinct()))
    engine.dispose()
    runs = [
        Known(run, name, status, started_ms, tags[run], metrics[run], run in with_params)
        for run, name, status, started_ms, stage in rows
        if stage == LifecycleStage.ACTIVE
    ]
    return runs, {row[0] for row in rows} - {run.run_id for run in runs}


def _uri(database: Path) -> str:
    return f"sqlite:///{database}"


def _beside(home: Home) -> list[Path]:
    named = (home.path / f"{home.database.name}{end}" for end in BESIDE)
    return [path for path in named if path.exists()]


def _let_go(database: Path) -> None:
    """Close the connections that MLflow keeps; they would follow a file that is renamed."""
    engine = SqlAlchemyStore._engine_map.get(_uri(database))
    if engine is not None:
        engine.dispose()


def _pragma(database: Path, statement: str) -> None:
    with contextlib.closing(_connected(database)) as connection:
        connection.execute(f"PRAGMA {statement}").fetchall()


def _connected(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(database, timeout=PATIENCE_S)


def _quiet() -> None:
    """Keep MLflow from announcing every table that it makes."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _who_has(database: Path) -> str:
    """Return which other processes have the file open, as far as this one may see."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.name != str(os.getpid()) and any(
                opened.samefile(database) for opened in (process / "fd").iterdir()
            ):
                name = (process / "comm").read_text().strip()
                found.append(f"process {process.name} (`{name}`)")
    return ", ".join(found) or "another program"


def _unreadable(home: Home, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0]
    if "database is locked" in str(error):
        return InputError(
            f"the tracking database `{home.database}` is locked by {_who_has(home.database)}",
            hint="wait for it or stop it; nothing that was stored is lost",
        )
    return InputError(
        f"the tracking database `{home.database}` cannot be read: {reason}",
        hint="`hdsweep reconcile --rebuild` makes it anew from the stored artifacts",
    )
