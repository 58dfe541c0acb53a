"""A home in an object store, and the folder of this machine that stands for it.

Everything that reads or writes a home works on a folder. For `s3://bucket/prefix` that is a mirror
below this machine's cache: what is small is brought before a command begins and carried back when it
ends; what is large (images, weights of networks) is brought when something here reads it, which on a
driver is seldom. Workers never see the mirror: they read and write the store themselves (`staging`).

An object store renames nothing: a finished run is published by copying its objects to where MLflow
looks, `result.json` last. A folder without it is none.

REMOTE       the address of the home
SYNCED.json  size and time of each file, here and there, when both were the same
"""

import hashlib
import json
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.store.home.lease import NAME as LEASE
from orchestrator.store.home.lease import Lease, ourselves, read_lease
from trainables.atomic_files import temporary_beside
from trainables.code import files_beside
from trainables.data.prepared import DATA_FILE, DESCRIPTION_FILE
from trainables.result import RESULT_FILE
from trainables.storage import AT_ONCE, MIRROR_FILE, Storage, Stored, cache_folder

SYNCED_FILE = "SYNCED.json"
DATABASE = "mlflow.db"
PUSH_SECONDS = 60.0  # Between two copies of the database while a sweep runs.
HEX_DIGITS = 16

DATASETS = "datasets/"
OURS = {MIRROR_FILE, SYNCED_FILE, "lock", LEASE}
OF_WORKERS = ("attempts/", "checkpoints/", "tuning/states/")
BEING_WRITTEN = ("-wal", "-shm", "-journal", ".new", ".partial")
LARGE = (".arrow", ".safetensors", ".pt")  # Not brought unasked, but for ImageNet weights.
WEIGHTS = "weights"

Times = list[int]
"""Size in bytes and time of change in nanoseconds."""


def mirror_folder(address: str) -> Path:
    """Return the folder of this machine that stands for a home in an object store, made if need be."""
    digest = hashlib.sha256(address.encode()).hexdigest()[:HEX_DIGITS]
    folder = cache_folder() / "homes" / digest
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / MIRROR_FILE).write_text(f"{address}\n", encoding="utf-8")
    return folder


def mirror_of(folder: Path) -> "Mirror | None":
    """Return what a home folder mirrors; None if it is the home itself."""
    file = folder / MIRROR_FILE
    return Mirror(folder, file.read_text(encoding="utf-8").strip()) if file.is_file() else None


class Mirror:
    """The mirror of one home. Paths are below the mirror's folder, names below the home's address.

    Raises:
        InputError: from `pull` and `push`, if the store refuses or is not to be reached.
        OSError: from every other method, likewise.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address
        self.storage = Storage(address)
        self._pushed_at = time.monotonic()
        self._carried_code: dict[Path, str] = {}
        self._lease: Lease | None = None

    @property
    def artifact_location(self) -> str:
        """Where MLflow is told that artifacts lie, readable from any machine."""
        return f"{self.storage.shown.rstrip('/')}/artifacts"

    @cached_property
    def _synced(self) -> dict[str, dict[str, Times]]:
        with suppress(OSError, ValueError):
            known: dict[str, dict[str, Times]] = json.loads(
                (self.folder / SYNCED_FILE).read_text(encoding="utf-8")
            )
            return known
        return {}

    def pull(self) -> None:
        """Bring what is small and changed in the store since it was last looked into."""
        with self._told(), self._remembering():
            there = self.storage.all()
            for name in there:
                if name.startswith(OF_WORKERS):  # That they are there is all that is of interest,
                    (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            ended = {n.rpartition("/")[0] for n in there if n.endswith(f"/{RESULT_FILE}")}
            fresh = [
                name
                for name, stored in there.items()
                if (_is_shared(name) or name.rpartition("/")[0] in ended)  # but for results.
                and not _is_large(name)
                and not self._has(name, stored)
            ]
            self._forget_datasets(fresh, there)
            self._bring_all(fresh, there)

    def push(self, below: Iterable[str] = ("",)) -> None:
        """Carry what changed here since both sides were the same.

        Args:
            below: names that it is limited to begin with one of these.

        Raises:
            LeaseLostError: if another may have begun to drive the home.
        """
        self.require_driven()
        with self._told(), self._remembering():
            chosen = tuple(below)
            names = [name for name in self._names() if name.startswith(chosen)]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(self._carry_if_changed, names))
            self._pushed_at = time.monotonic()

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Be the only driver of the home, of all machines; begin with what is stored there now.

        Raises:
            InputError: if another drives it, or the store refuses or is not to be reached.
        """
        with ExitStack() as stack:
            with self._told():
                self._lease = Lease(self.storage, ourselves())
                stack.enter_context(self._lease.held())
                self.pull()
            try:
                yield
            finally:
                self._lease = None

    def require_driven(self) -> None:
        """Raise a LeaseLostError if another may have begun to drive the home."""
        if self._lease is not None:
            self._lease.require()

    @property
    def driver(self) -> dict[str, str] | None:
        """Who drives the home at present, or did until it died; None if nobody."""
        with self._told():
            return read_lease(self.storage) or None

    def push_now_and_then(self) -> None:
        """Carry the database and what searches know, unless that was done a moment ago."""
        if time.monotonic() - self._pushed_at > PUSH_SECONDS:
            self.push((DATABASE, "tuning/"))

    def bring(self, path: Path) -> Path:
        """Bring one file, however large, unless it is here; return it, there or not."""
        if not path.is_file():
            with suppress(FileNotFoundError):
                self.storage.download(self.name_of(path), path)
        return path

    def bring_folder(self, folder: Path) -> None:
        """Bring the small files of a folder."""
        there = self.storage.all(self.name_of(folder))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            names = [name for name in there if not _is_large(name)]
            list(pool.map(lambda n: self.storage.download(n, self.folder / n), names))

    def has_folder(self, folder: Path) -> bool:
        """Return whether the store has any file of a folder."""
        return bool(self.storage.all(self.name_of(folder)))

    def size_of(self, path: Path) -> int | None:
        """Return the bytes of a file in the store; None if there is none."""
        stored = self.storage.one(self.name_of(path))
        return stored.bytes if stored else None

    def carry(self, path: Path) -> None:
        """Carry one file."""
        self.storage.upload(path, self.name_of(path))

    def carry_code(self, folder: Path) -> str:
        """Carry the Python files of a user's folder, and return the name that workers find them by.

        With the packages that they import from there.
        """
        if folder not in self._carried_code:
            modules = [file.stem for file in folder.glob("*.py") if file.is_file()]
            files = files_beside(modules, folder)
            told = repr(sorted(files.items())).encode()
            name = f"code/{folder.name}-{hashlib.sha256(told).hexdigest()[:HEX_DIGITS]}"
            for file, content in files.items():
                self.storage.write(f"{name}/{file}", content)
            self._carried_code[folder] = name
        return self._carried_code[folder]

    def move(self, source: Path, destination: Path) -> None:
        """Move a folder within the store, its `result.json` last; safe to be cut short and repeated.

        Raises:
            LeaseLostError: if another may have begun to drive the home.
        """
        self.require_driven()
        before, after = self.name_of(source), self.name_of(destination)
        names = [name.removeprefix(f"{before}/") for name in self.storage.all(before)]

        def copy(name: str) -> None:
            self.storage.copy(f"{before}/{name}", f"{after}/{name}")

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(copy, (name for name in names if name != RESULT_FILE)))
        if RESULT_FILE in names:
            copy(RESULT_FILE)
        self.drop(source)

    def drop(self, folder: Path) -> None:
        """Remove a folder, or a file, from the store."""
        name = self.name_of(folder)
        self.storage.remove_below(name)
        self.storage.remove(name)

    def name_of(self, path: Path) -> str:
        """Return the name below the home's address of a path below the mirror."""
        return path.relative_to(self.folder).as_posix()

    def _names(self) -> Iterator[str]:
        for path in self.folder.rglob("*"):
            name = self.name_of(path)
            if _is_shared(name) and path.is_file():
                yield name

    def _has(self, name: str, stored: Stored) -> bool:
        """Whether a file is here as it is there."""
        known = self._synced.get(name)
        return (
            known is not None and known["there"] == _there(stored) and self._path(name).is_file()
        )

    def _forget_datasets(self, fresh: Iterable[str], there: dict[str, Stored]) -> None:
        """Remove datasets that are no longer there, and the images of those that were prepared anew."""
        gone = [name for name in self._synced if name.startswith(DATASETS) and name not in there]
        for name in gone:
            if self._synced.pop(name)["here"] == self._here(name):
                self._path(name).unlink(missing_ok=True)
        for name in gone:
            if name.endswith(f"/{DESCRIPTION_FILE}") and not self._path(name).exists():
                shutil.rmtree(self._path(name).parent, ignore_errors=True)
        for name in fresh:
            if name.startswith(DATASETS) and name.endswith(f"/{DESCRIPTION_FILE}"):
                images = f"{name.removesuffix(DESCRIPTION_FILE)}{DATA_FILE}"
                if images not in there or not self._has(images, there[images]):
                    self._path(images).unlink(missing_ok=True)

    def _bring_all(self, names: Iterable[str], there: dict[str, Stored]) -> None:
        def bring(name: str) -> None:
            if name == DATABASE:
                self._bring_database(there[name])
                return
            try:
                self.storage.download(name, self._path(name))
            except OSError:
                if self.storage.one(name) is not None:
                    raise
                return  # Whoever drives the home has removed it meanwhile.
            self._note(name, there[name])

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(bring, names))

    def _bring_database(self, stored: Stored) -> None:
        """Bring one state of the database, which whoever drives the home may replace meanwhile."""
        # What a driver here left beside it belongs to what it replaces.
        for ending in BEING_WRITTEN[:2]:
            Path(f"{self._path(DATABASE)}{ending}").unlink(missing_ok=True)
        while True:
            self.storage.download(DATABASE, self._path(DATABASE))
            before, now = stored, self.storage.one(DATABASE)
            if now is None or now == before:
                break
            stored = now
        self._note(DATABASE, stored)

    def _carry_if_changed(self, name: str) -> None:
        known = self._synced.get(name)
        if known is not None and known["here"] == self._here(name):
            return
        here = self._here(name)
        with self._steady(name) as path:
            self.storage.upload(path, name)
        stored = self.storage.one(name)
        if stored is not None:
            self._synced[name] = {"here": here, "there": _there(stored)}

    @contextmanager
    def _steady(self, name: str) -> Iterator[Path]:
        """Yield a file that nobody is writing: of the database, a copy."""
        path = self._path(name)
        if name != DATABASE:
            yield path
            return
        copy = path.with_name(f".{DATABASE}.copy")
        try:
            with (
                closing(sqlite3.connect(path)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def _note(self, name: str, stored: Stored) -> None:
        self._synced[name] = {"here": self._here(name), "there": _there(stored)}

    def _here(self, name: str) -> Times:
        """Return what tells one state of a file from another; a database is also what lies beside it."""
        path = self._path(name)
        parts = [path, *(Path(f"{path}{end}") for end in BEING_WRITTEN[:1] if name == DATABASE)]
        states = [part.stat() for part in parts if part.exists()]
        return [value for each in states for value in (each.st_size, each.st_mtime_ns)]

    def _path(self, name: str) -> Path:
        return self.folder / name

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """Write down what is the same on both sides, whether or not all of it was done."""
        try:
            yield
        finally:
            fresh = temporary_beside(self.folder / SYNCED_FILE)
            fresh.write_text(json.dumps(self._synced), encoding="utf-8")
            fresh.rename(self.folder / SYNCED_FILE)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # A ValueError of Arrow is about the address.
            reason = str(error).partition(" (Request ID")[0]
            raise InputError(
                f"home `{self.storage.shown}` cannot be used: {reason}",
                hint="the bucket must exist; credentials are found as the cloud's own tools find them",
            ) from error


def _is_shared(name: str) -> bool:
    """Whether a file belongs to the home and not to this machine or to a worker."""
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not (
        hidden or name in OURS or name.startswith(OF_WORKERS) or name.endswith(BEING_WRITTEN)
    )


def _is_large(name: str) -> bool:
    return name.endswith(LARGE) and not name.startswith(f"{WEIGHTS}/")


def _there(stored: Stored) -> Times:
    return [stored.bytes, stored.modified_ns]
