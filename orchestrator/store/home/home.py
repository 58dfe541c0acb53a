"""The home folder: everything that hdsweep keeps, readable by its owner alone, one driver at a time.

VERSION  lock  mlflow.db         artifacts/<MLflow run id>/artifacts/
attempts/<key>/<number>/         a worker fills one; the driver publishes it
TRACKING                         address of an MLflow server, where that keeps the runs instead of mlflow.db,
                                 and what its experiment is named after
checkpoints/<key>/  datasets/  weights/  logs/
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote

from orchestrator.errors import InputError
from orchestrator.process.unusable import shown
from orchestrator.store.home.lease import ourselves, taken
from orchestrator.store.home.read_only import allowed
from orchestrator.wording import in_short
from trainables.data.prepared import DATA_FILE, DESCRIPTION_FILE
from trainables.file_kinds import odd_kind
from trainables.storage import ANONYMOUS, MIRROR_FILE, is_remote

if TYPE_CHECKING:
    from orchestrator.store.home.mirror import Mirror

LAYOUT_VERSION = 1
ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:/")
MARKS = ("VERSION", "mlflow.db", "TRACKING", MIRROR_FILE)  # One of them is in every home.
PARTS = frozenset(
    {
        "artifacts",
        "attempts",
        "checkpoints",
        "datasets",
        "lock",
        "logs",
        "reports",
        "tuning",
        "weights",
    }
)
OF_DISKS = frozenset({"lost+found", ".snapshot", ".snapshots", ".DS_Store"})
MOST_NAMED = 4  # Files of somebody's that are named.
LEAST_FREE_BYTES = 100 * 2**20  # Below this a checkpoint or the database may not be written whole.
LOCK_TRIES, LOCK_PAUSE_S = 5, 0.05


class Home:
    """Where the parts of a home folder lie."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "mlflow.db"
        self.tracking_file = path / "TRACKING"
        self.artifacts = path / "artifacts"
        self.attempts = path / "attempts"
        self.checkpoints = path / "checkpoints"
        self.datasets = path / "datasets"
        self.weights = path / "weights"
        self.logs = path / "logs"

    def exists(self) -> bool:
        """Whether anything has ever been stored here.

        Raises:
            InputError: if a newer version wrote it, which may call things otherwise.
        """
        check_version(self)
        return self.database.is_file() or self.tracking_uri is not None

    @property
    def tracking_uri(self) -> str | None:
        """The MLflow server that keeps the runs; None if the database of the home does."""
        return self._tracking[0]

    @property
    def named_after(self) -> str:
        """The place that the experiment on a server is named after.

        It stays when the home is reached another way, through a link; a home that was moved or copied
        has an experiment of its own, for an experiment's artifacts cannot be moved.
        """
        here = self.artifact_location.removeprefix("file://").removesuffix("/artifacts")
        _, noted = self._tracking
        with contextlib.suppress(OSError):
            if noted is not None and os.path.samefile(unquote(noted), self.path):
                return noted
        return here

    @property
    def _tracking(self) -> tuple[str | None, str | None]:
        """The server's address, and what its experiment was named after; older homes note the first."""
        with contextlib.suppress(FileNotFoundError):
            lines = [*self.tracking_file.read_text(encoding="utf-8").split("\n"), ""]
            return lines[0].strip() or None, lines[1] or None
        return None, None

    def note_tracking(self, uri: str) -> None:
        """Note the server that keeps the runs from now on."""
        write_whole(self.tracking_file, f"{uri}\n{self.named_after}\n")

    @cached_property
    def mirror(self) -> "Mirror | None":
        """The object store that this folder stands for; None if it is the home itself."""
        from orchestrator.store.home.mirror import mirror_of

        return mirror_of(self.path)

    @property
    def address(self) -> str:
        """What workers on other machines find the home by."""
        return self.mirror.address if self.mirror else str(self.path)

    @property
    def artifact_location(self) -> str:
        """What MLflow finds artifacts by."""
        return self.mirror.artifact_location if self.mirror else self.artifacts.as_uri()

    def bring(self, path: Path) -> Path:
        """Return a file of the home, copied here first where the home is an object store; it may not exist."""
        return self.mirror.bring(path) if self.mirror else path

    @property
    def driver(self) -> dict[str, str] | None:
        """Who drives this home at present, wherever; None if nobody does."""
        return holder(self) or (self.mirror.driver if self.mirror else None)

    @property
    def driver_is_told(self) -> bool:
        """Whether this process may see who drives the home; a lock of another user's may say nothing."""
        return may_be_asked(self.path / "lock")

    def bring_datasets(self) -> None:
        """Have the images of every prepared dataset here."""
        for description in self.datasets.glob(f"*/{DESCRIPTION_FILE}"):
            self.bring(description.with_name(DATA_FILE))

    def size_of(self, path: Path) -> int | None:
        """Return the bytes of a file here, or in the object store that this folder stands for."""
        if path.is_file():
            return path.stat().st_size
        return self.mirror.size_of(path) if self.mirror else None

    def push(self) -> None:
        """Carry what was written to the object store that this folder stands for, if it does.

        Raises:
            InputError: if the store cannot be written.
        """
        if self.mirror is not None:
            self.mirror.push()


def home_folder(home: str | Path) -> Path:
    """Return the folder of a home that is named by a path, or by the address of an object store.

    What changed in a store is brought here first, unless a sweep of this machine is at work on it.

    Raises:
        InputError: if the store cannot be read.
    """
    address = str(home)
    if not is_remote(address):
        return _local_folder(address)
    from orchestrator.store.home.mirror import Mirror, mirror_folder

    if "@" in address.replace(f"://{ANONYMOUS}", "://", 1):
        raise InputError(
            "the address of a home must not hold keys: it is stored and shown",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a role or a profile",
        )
    folder = mirror_folder(address)
    if holder(Home(folder)) is None:
        Mirror(folder, address).pull()
    return folder


def _local_folder(address: str) -> Path:
    if not address.strip():
        raise InputError(
            "--home is empty: a variable that is not set?", hint="leave it out, or name a folder"
        )
    if ADDRESS.match(address):
        raise InputError(
            f"--home {address}: no home can be kept there",
            hint="a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX",
        )
    try:
        path = Path(address).expanduser().absolute()
    except RuntimeError as error:  # Of an unknown user after ~.
        raise InputError(f"--home {address}: {error}") from error
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if not path.is_symlink():
            return path
        what = "a link that leads nowhere"
    except (OSError, ValueError) as error:
        raise InputError(
            f"home folder `{shown(path)}` cannot be used: {_reason(error)}"
        ) from error
    else:
        if stat.S_ISDIR(mode):
            return path
        what = odd_kind(path) or "a file"
    raise InputError(f"home folder `{path}` is {what}", hint="name a folder with --home")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def may_be_written(path: Path) -> bool:
    """Whether this process may keep something in a folder."""
    return allowed(path, os.W_OK | os.X_OK)


def owners_only() -> None:
    """Make all that this process and its children write their owner's only, from here on.

    For what Ray, MLflow and SQLite write too, whatever the user's own mask.
    """
    os.umask(0o077)


def open_home(path: Path, *, adopt: bool = False) -> Home:
    """Return the home folder at `path`, made if it is not there; what is made is its owner's only.

    Args:
        adopt: take a folder that has other things in it, and leave those as they are.

    Raises:
        InputError: if it cannot be written, is full, was written by a newer version, or has things of
            somebody's in it that are no home's.
    """
    owners_only()
    home = Home(path.expanduser().absolute())
    folders = (home.artifacts, home.attempts, home.checkpoints, home.datasets, home.logs)
    try:
        _take(home, adopt=adopt)
        for folder in (*folders, home.weights):
            if not folder.is_dir():
                folder.mkdir(mode=0o700)
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


def _take(home: Home, *, adopt: bool) -> None:
    """Make the folder of a home, or take one that is empty; nobody else's is made private."""
    if not home.path.is_dir():
        home.path.mkdir(parents=True)
        home.path.chmod(0o700)
        return
    if any((home.path / mark).exists() for mark in MARKS):
        return
    here = sorted(os.listdir(home.path))
    foreign = [name for name in here if name not in PARTS and name not in OF_DISKS]
    if foreign and not adopt:
        raise InputError(
            f"folder `{home.path}` is no home of hdsweep, and not empty: it has "
            f"{in_short([shown(name) for name in foreign], most=MOST_NAMED)}",
            hint="an empty or new folder, or --adopt to keep hdsweep's files beside those",
        )
    if not foreign and home.path.stat().st_uid == os.geteuid():
        home.path.chmod(0o700)


def check_version(home: Home) -> None:
    """Raise an InputError if the layout of a home is newer than ours."""
    file = home.path / "VERSION"
    if not file.exists():
        return
    found = file.read_text(errors="replace", encoding="utf-8").strip()
    if not found.isdigit() or int(found) > LAYOUT_VERSION:
        raise InputError(
            f"home folder `{home.path}` has layout version {found}, this hdsweep knows "
            f"{LAYOUT_VERSION}",
            hint="use the newer hdsweep that wrote it, or choose another folder with --home",
        )


def _note_version(file: Path) -> None:
    """Write the version, unless it is there: one that a kill left empty would lock us out."""
    if not file.exists():
        write_whole(file, f"{LAYOUT_VERSION}\n")


def write_whole(file: Path, text: str) -> None:
    """Write a small file of its owner's only, renamed into place when it is whole."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
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
    with (home.path / "lock").open("a+", encoding="utf-8") as file:
        if not _acquired(file):
            raise taken(home.address, holder(home) or {})
        file.truncate(0)
        file.write(json.dumps(ourselves()))
        file.flush()
        try:
            with home.mirror.driven() if home.mirror else contextlib.nullcontext():
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


def may_be_asked(lock: Path) -> bool:
    """Whether this process may look at a lock; at one that is not there, too."""
    return not lock.is_file() or allowed(lock, os.R_OK)


def holder(home: Home) -> dict[str, str] | None:
    """Return who on this machine drives the home at present; None if nobody does."""
    path = home.path / "lock"
    if not path.is_file() or not may_be_asked(path):
        return None
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(ValueError):
                found: dict[str, str] = json.loads(file.read())
                return found
            return {}
    return None
