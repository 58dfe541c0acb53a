"""The home folder: everything that hdsweep keeps, readable by its owner alone, one driver at a time.

VERSION  lock  mlflow.db         artifacts/<MLflow run id>/artifacts/
attempts/<key>/<number>/         a worker fills one; the driver publishes it
checkpoints/<key>/  datasets/  weights/  logs/
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from orchestrator.errors import InputError

LAYOUT_VERSION = 1
LEAST_FREE_BYTES = 100 * 2**20  # Below this a checkpoint or the database may not be written whole.
LOCK_TRIES, LOCK_PAUSE_S = 5, 0.05


class Home:
    """Where the parts of a home folder lie."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "mlflow.db"
        self.artifacts = path / "artifacts"
        self.attempts = path / "attempts"
        self.checkpoints = path / "checkpoints"
        self.datasets = path / "datasets"
        self.weights = path / "weights"
        self.logs = path / "logs"

    def exists(self) -> bool:
        """Whether anything has ever been stored here."""
        return self.database.is_file()


def open_home(path: Path) -> Home:
    """Return the home folder at `path`, made if it is not there; files are the owner's only.

    Raises:
        InputError: if it cannot be written, is full, or was written by a newer version.
    """
    # For what Ray, MLflow and SQLite write too, whatever the user's own mask.
    os.umask(0o077)
    home = Home(path.expanduser().absolute())
    folders = (home.artifacts, home.attempts, home.checkpoints, home.datasets, home.logs)
    try:
        for folder in (home.path, *folders, home.weights):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        check_version(home)
        _note_version(home.path / "VERSION")
    except OSError as error:
        raise _unusable(home.path, error) from error
    free = shutil.disk_usage(home.path).free
    if free < LEAST_FREE_BYTES:
        raise InputError(
            f"home folder `{home.path}` is full: {free / 2**20:.0f} MiB left, "
            f"{LEAST_FREE_BYTES / 2**20:.0f} MiB are the least",
            hint="free some space there, or choose another folder with --home",
        )
    return home


def check_version(home: Home) -> None:
    """Raise an InputError if the layout of a home is newer than ours."""
    file = home.path / "VERSION"
    if not file.exists():
        return
    found = file.read_text(errors="replace").strip()
    if not found.isdigit() or int(found) > LAYOUT_VERSION:
        raise InputError(
            f"home folder `{home.path}` has layout version {found}, this hdsweep knows "
            f"{LAYOUT_VERSION}",
            hint="use the newer hdsweep that wrote it, or choose another folder with --home",
        )


def _note_version(file: Path) -> None:
    """Write the version, renamed into place: one that a kill left empty would lock us out."""
    if not file.exists():
        fresh = file.with_suffix(".new")
        fresh.write_text(f"{LAYOUT_VERSION}\n")
        fresh.chmod(0o600)
        fresh.rename(file)


def _unusable(path: Path, error: OSError) -> InputError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = "is full" if full else f"cannot be written: {error.strerror}"
    return InputError(f"home folder `{path}` {what}", hint="choose another folder with --home")


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    """Be the only driver of this home.

    The kernel releases the lock when its holder dies, however it dies; the content says who held it.

    Raises:
        InputError: if another driver is alive, naming it.
    """
    with (home.path / "lock").open("a+") as file:
        os.chmod(file.fileno(), 0o600)
        if not _acquired(file):
            raise _taken(home)
        file.truncate(0)
        file.write(json.dumps(_ourselves()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _acquired(file: IO[str]) -> bool:
    """Lock the file; wait a moment, since somebody may be looking at it, see `holder`."""
    for _ in range(LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(LOCK_PAUSE_S)
    return False


def holder(home: Home) -> dict[str, str] | None:
    """Return who drives this home at present; None if nobody does."""
    path = home.path / "lock"
    if not path.is_file():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(ValueError):
                found: dict[str, str] = json.loads(file.read())
                return found
            return {}
    return None


def _ourselves() -> dict[str, str]:
    return {
        "pid": str(os.getpid()),
        "host": os.uname().nodename,
        "boot": _boot(),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "command": " ".join(Path(part).name for part in sys.argv[:3]),
    }


def _boot() -> str:
    """Return what tells this start of the machine from others: process ids repeat after it."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "unknown"


def _taken(home: Home) -> InputError:
    who = holder(home) or {}
    described = f"process {who.get('pid', '?')} on {who.get('host', '?')}"
    return InputError(
        f"home folder `{home.path}` is used by another sweep: {described}, "
        f"`{who.get('command', '?')}` since {who.get('since', '?')}",
        hint="wait for it, stop it, or choose another folder with --home",
    )
