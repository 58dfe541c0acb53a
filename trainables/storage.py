"""A folder wherever it lies: on a disk, or in an object store (`s3://`, `gs://`) through Arrow.

Names are relative to the folder, with `/` between their parts. An object appears whole or not at all,
which on a disk is done by renaming; a folder of objects has no such moment, so whoever fills one writes
the object last that says it is complete.
"""

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainables.atomic_files import temporary_beside

IN_OBJECT_STORE = re.compile(r"^(s3|gs|gcs)://[^/]+")
MIRROR_FILE = (
    "REMOTE"  # In a folder that stands for a home in an object store: the address of that.
)
ANONYMOUS = (
    "anonymous@"  # How Arrow is told to ask Google's storage, or one like it, without a login.
)
PIECE_BYTES = 8 * 2**20
AT_ONCE = 8  # Pieces of a file, or small files, that are under way.


def is_remote(place: str) -> bool:
    """Whether a home is named by the address of an object store."""
    return IN_OBJECT_STORE.match(place) is not None


def cache_folder() -> Path:
    """Return where this machine keeps copies: `HDSWEEP_CACHE`, or `~/.cache/hdsweep`."""
    return Path(os.environ.get("HDSWEEP_CACHE") or "~/.cache/hdsweep").expanduser().absolute()


@dataclass(frozen=True)
class Stored:
    """One file or object."""

    bytes: int
    modified_ns: int
    """Unix time, by the clock of whoever stores it."""


class Storage:
    """Files below one folder of a file system or one prefix of an object store.

    Args:
        place: an absolute path, or an address such as `s3://bucket/prefix`. What a service needs
            besides is found as its own tools find it (`AWS_*` variables, an instance's role), or
            follows as Arrow reads it: `?region=...&endpoint_override=host:port&scheme=http`.

    Raises:
        OSError: from every method, if the service refuses or is not to be reached.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.remote = is_remote(place)

    @property
    def shown(self) -> str:
        """The place for people, without what a service needs besides."""
        if not self.remote:
            return self.place
        return self.place.partition("?")[0].replace(f"://{ANONYMOUS}", "://", 1)

    @cached_property
    def _where(self) -> tuple[Any, str]:
        # Arrow's cloud libraries take a moment to load: not before they are used.
        from pyarrow.fs import FileSystem

        place = self.place
        if place.startswith("s3:"):  # One request for a small file instead of three.
            place += f"{'&' if '?' in place else '?'}allow_delayed_open=true"
        files, root = FileSystem.from_uri(place)
        return files, root.rstrip("/")

    def all(self, below: str = "") -> dict[str, Stored]:
        """Return every file below a folder by its name; none if there is no such folder."""
        from pyarrow.fs import FileSelector, FileType

        files, root = self._where
        chosen = FileSelector(self._path(below), recursive=True, allow_not_found=True)
        return {
            info.path.removeprefix(root).lstrip("/"): Stored(info.size, _nanoseconds(info))
            for info in files.get_file_info(chosen)
            if info.type == FileType.File and not info.path.endswith("/")
        }

    def one(self, name: str) -> Stored | None:
        """Return a file, or None if there is none of that name."""
        from pyarrow.fs import FileType

        info = self._where[0].get_file_info(self._path(name))
        return Stored(info.size, _nanoseconds(info)) if info.type == FileType.File else None

    def read(self, name: str) -> bytes:
        """Return the content of a small file.

        Raises:
            FileNotFoundError: if there is none of that name.
        """
        with self._where[0].open_input_stream(self._path(name)) as stream:
            return bytes(stream.read())

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, in place of the one that has its name."""
        if not self.remote:
            Path(self._path(name)).parent.mkdir(parents=True, exist_ok=True)
        with self._where[0].open_output_stream(self._path(name)) as stream:
            stream.write(content)

    def download(self, name: str, path: Path) -> None:
        """Copy a file to this machine, where it appears when it is whole.

        Raises:
            FileNotFoundError: if there is none of that name.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = temporary_beside(path)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with self._where[0].open_input_file(self._path(name)) as source:
                _copy_pieces(source, descriptor)
            partial.rename(path)
        finally:
            os.close(descriptor)
            partial.unlink(missing_ok=True)

    def upload(self, path: Path, name: str) -> None:
        """Copy a file of this machine here."""
        with (
            path.open("rb") as source,
            self._where[0].open_output_stream(self._path(name)) as sink,
        ):
            shutil.copyfileobj(source, sink, PIECE_BYTES)

    def upload_folder(self, folder: Path, name: str, *, last: str) -> None:
        """Copy all files of a folder of this machine here.

        Args:
            last: name of the file that says that all are there, at the top of the folder.
        """
        files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        for file in sorted(files, key=lambda each: each == last):
            self.upload(folder / file, f"{name}/{file}")

    def copy(self, name: str, to: str) -> None:
        """Copy a file within the storage; its bytes do not pass through this machine."""
        self._where[0].copy_file(self._path(name), self._path(to))

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens if there is none of that name."""
        if self.one(name) is not None:
            self._where[0].delete_file(self._path(name))

    def remove_below(self, folder: str) -> None:
        """Remove all files of a folder."""
        for name in self.all(folder):
            self._where[0].delete_file(self._path(name))

    def _path(self, name: str) -> str:
        root = self._where[1]
        return f"{root}/{name}" if name else root


def _copy_pieces(source: Any, descriptor: int) -> None:
    """Copy a file piece by piece, several at once: one connection does not fill a network."""

    def copy(start: int) -> None:
        os.pwrite(descriptor, source.read_at(min(PIECE_BYTES, size - start), start), start)

    size = source.size()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(copy, range(0, size, PIECE_BYTES)))


def _nanoseconds(info: Any) -> int:
    return int(info.mtime_ns or 0)
