"""Unpacking downloads: zip and tar, from outside and so not trusted.

Only plain files and folders are written, only below the destination, and no more bytes than the
archive declares and the disk has.
"""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from trainables.data.errors import DatasetError

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
LEAST_LEFT = 2**30  # Bytes of the disk that unpacking leaves free.
COPIED_AT_ONCE = 2**20

OnUnpacked = Callable[[int, int], None]
"""Called with the bytes unpacked so far and the bytes there will be."""


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    kind: str
    """`file`, `folder`, or what else it is."""
    content: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Whether a path ends like an archive that can be unpacked."""
    return path.name.lower().endswith(ENDINGS)


def unpack(archive: Path, folder: Path, on_unpacked: OnUnpacked | None = None) -> None:
    """Unpack an archive below `folder`.

    Raises:
        DatasetError: if it is no archive, is damaged or encrypted, holds links or devices or a path
            that leads outside, or does not fit on the disk; everything is checked before the first
            file is written, but for damage.
    """
    with _members(archive) as members:
        for member in members:
            _check(member, archive)
        total = sum(member.size for member in members)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = shutil.disk_usage(folder).free
        if total + LEAST_LEFT > free:
            raise DatasetError(
                f"{archive}: unpacks to {total / 1e9:.1f} GB, {free / 1e9:.1f} GB are free at {folder}"
            )
        done = 0
        for member in members:
            if member.kind == "file" and not _is_shadow(member.name):
                _write(member, folder / member.name, archive)
            done += member.size
            if on_unpacked:
                on_unpacked(done, total)


@contextmanager
def _members(archive: Path) -> Iterator[list[_Member]]:
    """Open an archive and yield what it holds."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                yield [_zipped(opened, info) for info in opened.infolist()]
        else:
            with tarfile.open(archive) as packed:
                yield [_tarred(packed, info) for info in packed.getmembers()]
    except FileNotFoundError as error:
        raise DatasetError(f"{archive}: no such file") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        raise DatasetError(f"{archive}: not a readable archive: {error}") from error


def _zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = stat.S_IFMT(info.external_attr >> 16)
    kind = "folder" if info.is_dir() else "file" if mode in (0, stat.S_IFREG) else "link"
    # `orig_filename` is what the archive says; `filename` has been made harmless.
    return _Member(info.orig_filename, info.file_size, kind, lambda: archive.open(info))


def _tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    kind = "file" if info.isreg() else "folder" if info.isdir() else "link or device"

    def content() -> IO[bytes]:
        opened = archive.extractfile(info)
        assert opened is not None, "only asked of regular files"
        return opened

    return _Member(info.name, info.size, kind, content)


def _check(member: _Member, archive: Path) -> None:
    if member.kind not in ("file", "folder"):
        raise DatasetError(f"{archive}: holds a {member.kind}, `{member.name}`: not unpacked")
    path = PurePosixPath(member.name.replace("\\", "/"))
    drive = ":" in (path.parts[0] if path.parts else "")
    if path.is_absolute() or drive or ".." in path.parts or "\0" in member.name:
        raise DatasetError(f"{archive}: `{member.name}` would be written outside its folder")


def _is_shadow(name: str) -> bool:
    """Whether a file is one that macOS adds to archives beside the real one."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith("._")


def _write(member: _Member, path: Path, archive: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    left = member.size
    with member.content() as source, path.open("wb") as target:
        while piece := source.read(COPIED_AT_ONCE):
            left -= len(piece)
            if left < 0:
                raise DatasetError(f"{archive}: `{member.name}` is larger than the archive says")
            target.write(piece)
