"""Where MLflow looks for artifacts, kept true of a home that was moved, copied or restored elsewhere.

MLflow notes an absolute location with every experiment and every run. hdsweep itself goes by the home
that it is given; but the UI would list nothing, or show what belongs to the home that this one is a copy of.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.errors import InputError
from orchestrator.store.home.home import Home
from orchestrator.store.tracking.database import EXPERIMENT, connected, experiment_name, unreadable

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
)
FILE = "file://"


def mend(home: Home, database: Path | None = None) -> str | None:
    """Have the database of a home look for artifacts in that home.

    A home that is reached through a link is left as it is: both ways lead to the same files. A server's
    own database is nobody else's to write to; there the runs are recorded anew, see `server`.

    Args:
        database: the home's own by default; a copy of it where that may only be read.

    Returns:
        What there is to tell of it; None if all was well.

    Raises:
        InputError: if the database cannot be read or written.
    """
    if home.tracking_uri or not home.database.is_file():
        return None
    try:
        with contextlib.closing(connected(database or home.database)) as connection:
            noted = _noted(connection)
            if noted is None or _leads_to(noted, home):
                return None
            runs = _replace(connection, noted, home.artifact_location)
    except sqlite3.Error as error:
        raise unreadable(home, error) from error
    return _told(noted, runs, home) if runs else None


def recorded_anew(home: Home) -> str | None:
    """Return what to tell of a home whose server has no experiment of it, and note the new one's name.

    None if there is no server, or nothing that could have been recorded there before.
    """
    if home.tracking_uri is None or not any(home.artifacts.iterdir()):
        return None
    home.note_tracking(home.tracking_uri)
    return (
        f"{home.tracking_uri} has no experiment of home `{home.address}`, which is new there, moved or "
        f"copied: what is finished was recorded anew, as experiment `{experiment_name(home)}`"
    )


def require_recorded(home: Home) -> None:
    """Raise an InputError if a server has no experiment of a home in which runs are stored.

    For whoever only looks: nothing would seem to be finished.
    """
    if home.tracking_uri is not None and home.artifacts.is_dir() and any(home.artifacts.iterdir()):
        raise InputError(
            f"{home.tracking_uri} has no experiment of home `{home.address}`, which was moved or copied",
            hint=f"`hdsweep reconcile --home {home.address}` records what is finished there",
        )


def folder_of(location: str) -> Path | None:
    """Return the folder that a location of MLflow's names; None if it lies in an object store."""
    if location.startswith(FILE):
        return Path(unquote(urlsplit(location).path))
    return None if "://" in location else Path(location)


def same_folder(first: Path, second: Path) -> bool:
    """Whether two paths lead to one folder, through links too; False if one of them leads nowhere."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


def _noted(connection: sqlite3.Connection) -> str | None:
    row = connection.execute(
        "SELECT artifact_location FROM experiments WHERE name = ?", (EXPERIMENT,)
    ).fetchone()
    return None if row is None else str(row[0])


def _leads_to(location: str, home: Home) -> bool:
    folder = folder_of(location)
    return location == home.artifact_location or (
        folder is not None and home.mirror is None and same_folder(folder, home.artifacts)
    )


def _replace(connection: sqlite3.Connection, old: str, new: str) -> int:
    """Replace what locations begin with, all or none of them; return of how many runs."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    changed = {}
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for table, column in COLUMNS:
            if table not in tables:  # A home of an MLflow that did not have it yet.
                continue
            done = connection.execute(
                f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1)"
                f" WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
                {"old": old, "new": new},
            )
            changed[table] = done.rowcount
    return changed["runs"]


def _told(noted: str, runs: int, home: Home) -> str:
    folder = folder_of(noted)
    place = noted if folder is None else str(folder.parent)
    how = "copied" if folder is not None and folder.is_dir() else "moved or copied"
    return (
        f"home `{home.address}` was {how} from `{place}`: "
        f"MLflow now finds the artifacts of its {runs} runs here"
    )
