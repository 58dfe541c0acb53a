"""The home's own tracking database as SQLite sees it: what verbs that only read need of MLflow's tables.

MLflow makes the tables and writes them, see tracking.py. Importing it takes seconds, and its search makes an
object of every parameter, which of ten thousand runs takes twenty.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from orchestrator.errors import InputError
from orchestrator.store.home.home import Home
from orchestrator.store.home.read_only import PATIENCE_S, may_write, reading

if TYPE_CHECKING:
    from mlflow.entities import Run

EXPERIMENT = "hdsweep"
LAST = "seconds"
ACTIVE = "active"  # The stage of a run that nobody deleted in the UI.
MINE = "run_uuid IN (SELECT run_uuid FROM runs WHERE experiment_id = ?)"

Logged = tuple[str, int, int]
"""The last value of a metric: its name, step, and when it was logged, in milliseconds since 1970."""


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
    others_logged: bool = False
    """Whether somebody else logged metrics to it: after it had ended, or at updates that it never came to."""

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return what matters of MLflow's own record."""
        points = [(each.key, each.step, each.timestamp) for each in run.data.to_proto().metrics]
        return cls(
            run_id=run.info.run_id,
            name=run.info.run_name,
            status=run.info.status,
            started_ms=run.info.start_time,
            tags=dict(run.data.tags),
            metrics=dict(run.data.metrics),
            has_params=bool(run.data.params),
            others_logged=_others_logged(points, run.info.end_time),
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


class Runs(NamedTuple):
    """The runs of an experiment."""

    known: list[Known]
    """Newest first."""
    deleted: set[str]
    """Ids of those that somebody deleted in the UI."""


def experiment_name(home: Home) -> str:
    """Return what a home's experiment is called: on a server, which has others too, by the home."""
    if not home.tracking_uri:
        return EXPERIMENT
    return f"{EXPERIMENT} {home.named_after}"


def database_uri(database: Path) -> str:
    """Return what MLflow opens a database by; folders may have any name.

    With the name of its driver: MLflow would make the folder of a `sqlite:///` address as it is written
    there, with `%23` for `#`, beside the folder that is meant.
    """
    from sqlalchemy import URL

    return URL.create("sqlite+pysqlite", database=str(database)).render_as_string()


def read_runs(home: Home, experiment: str) -> Runs | None:
    """Return the runs of an experiment, by its name; None if there is none.

    Raises:
        InputError: if the file is not a database of MLflow's, or is damaged or locked.
    """
    try:
        with reading(home.database) as connection:
            found = connection.execute(
                "SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = ?",
                (experiment,),
            ).fetchone()
            if found is None and experiment == EXPERIMENT:
                found = _renamed(connection)
            return None if found is None else _runs_of(connection, *found)
    except (sqlite3.Error, OSError) as error:
        raise unreadable(home, error) from error


def require_writable(home: Home) -> None:
    """Wait a while for whoever writes to the database, and raise an InputError if that takes long.

    Another sweep is refused before, by the lock of the home. This is for those who open the file by
    other means: hours of training must not end at the first thing that is to be written down. A server
    needs nothing.
    """
    if home.tracking_uri:
        return
    try:
        with contextlib.closing(connected(home.database)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.Error as error:
        raise unreadable(home, error) from error


def compact(database: Path) -> None:
    """Bring everything into the one file, which can then be copied alone."""
    pragma(database, "wal_checkpoint(TRUNCATE)")


def pragma(database: Path, statement: str) -> None:
    """Execute a PRAGMA of SQLite."""
    with contextlib.closing(connected(database)) as connection:
        connection.execute(f"PRAGMA {statement}").fetchall()


def connected(database: Path) -> sqlite3.Connection:
    """Return a connection that waits for others."""
    return sqlite3.connect(database, timeout=PATIENCE_S)


def unreadable(home: Home, error: Exception) -> InputError:
    """Return what to tell of a database that cannot be read or written."""
    if isinstance(error, OSError):
        return InputError(
            f"the tracking database `{home.database}` may not be read: {error.strerror}",
            hint="whoever it belongs to can let you: `chmod -R g+rX` lets their group look at a home",
        )
    reason = str(error).strip().splitlines()[0]
    if not may_write(home.database) and home.database.is_file():
        return InputError(
            f"the tracking database `{home.database}` may only be read here: {reason}",
            hint="status, plan, report, compare, reproduce and ui only read",
        )
    if "database is locked" in str(error):
        return InputError(
            f"the tracking database `{home.database}` is locked by {_who_has(home.database)}",
            hint="wait for it or stop it; nothing that was stored is lost",
        )
    return InputError(
        f"the tracking database `{home.database}` cannot be read: {reason}",
        hint="`hdsweep reconcile --rebuild` makes it anew from the stored artifacts",
    )


def renamed_experiment(home: Home) -> str | None:
    """Return the id of the experiment that has our runs, whatever it is called; None without any."""
    with contextlib.closing(connected(home.database)) as connection:
        found = _renamed(connection)
    return None if found is None else str(found[0])


def _renamed(connection: sqlite3.Connection) -> tuple[int, str] | None:
    found: tuple[int, str] | None = connection.execute(
        "SELECT experiment_id, lifecycle_stage FROM experiments WHERE experiment_id IN"
        " (SELECT experiment_id FROM runs JOIN tags USING (run_uuid) WHERE key = 'hdsweep.kind')"
    ).fetchone()
    return found


def _runs_of(connection: sqlite3.Connection, number: int, stage_of_all: str) -> Runs:
    """Return the runs of an experiment; all of them count as there if it is deleted as a whole."""
    experiment = (number,)
    rows = connection.execute(
        "SELECT run_uuid, name, status, start_time, lifecycle_stage, end_time FROM runs"
        " WHERE experiment_id = ? ORDER BY start_time DESC",
        experiment,
    ).fetchall()
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    of_tags = f"SELECT run_uuid, key, value FROM tags WHERE {MINE}"
    for run, name, value in connection.execute(of_tags, experiment):
        tags[run][name] = value
    metrics: dict[str, dict[str, float]] = defaultdict(dict)
    of_metrics = (
        f"SELECT run_uuid, key, value, is_nan, step, timestamp FROM latest_metrics WHERE {MINE}"
    )
    points: dict[str, list[Logged]] = defaultdict(list)
    for run, name, value, nan, step, timestamp in connection.execute(of_metrics, experiment):
        metrics[run][name] = math.nan if nan else value
        points[run].append((name, step, timestamp))
    of_params = f"SELECT DISTINCT run_uuid FROM params WHERE {MINE}"
    with_params = {run for (run,) in connection.execute(of_params, experiment)}
    known = [
        Known(
            run,
            name,
            status,
            started_ms,
            tags[run],
            metrics[run],
            run in with_params,
            others_logged=_others_logged(points[run], ended_ms),
        )
        for run, name, status, started_ms, stage, ended_ms in rows
        if stage == ACTIVE or stage_of_all != ACTIVE
    ]
    return Runs(known, {row[0] for row in rows} - {run.run_id for run in known})


def _others_logged(points: Sequence[Logged], ended_ms: int | None) -> bool:
    """Whether any last value of a run is not from the run: see `Known.others_logged`."""
    last_ms = math.inf if ended_ms is None else ended_ms
    # What is written at the end of a run, at its last update.
    updates = next((step for name, step, _ in points if name == LAST), math.inf)
    return any(step > updates or logged_ms > last_ms for _, step, logged_ms in points)


def _who_has(database: Path) -> str:
    """Return which other processes have the file open, as far as this one may see."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.name != str(os.getpid()) and any(
                opened.samefile(database) for opened in (process / "fd").iterdir()
            ):
                name = (process / "comm").read_text(encoding="utf-8").strip()
                found.append(f"process {process.name} (`{name}`)")
    return ", ".join(found) or "another program"
