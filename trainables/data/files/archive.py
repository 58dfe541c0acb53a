"""Unpacking downloads: zip and tar, from outside and so not trusted.

Only plain files and folders are written, only below the destination, and no more bytes than the
archive declares and the disk has. An archive is read to its very end before it counts as whole:
Python's tarfile takes a damaged header for the end, and half a release for all of it.
"""

import calendar
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from trainables.data.errors import DatasetError

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
LEAST_LEFT = 2**30  # Bytes of the disk that unpacking leaves free.
COPIED_AT_ONCE = 2**20
LONGEST_NAME, LONGEST_PATH = 255, 4096  # Bytes, as Linux has them.

# On broken bytes; OSError is what gzip and bz2 raise, ValueError what names and times that are none
# do, RuntimeError what zipfile says to passwords and to compressions that it does not know.
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
YEAR_2106 = 2**32  # Later times than that are no times.

OnUnpacked = Callable[[int, int], None]
"""Called with the bytes unpacked so far and the bytes there will be."""


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    kind: str
    """`file`, `folder`, or what else it is."""
    seconds: int
    """Since 1970, when it was last changed, as the archive says."""
    content: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Whether a path ends like an archive that can be unpacked."""
    return path.name.lower().endswith(ENDINGS)


def unpack(archive: Path, folder: Path, on_unpacked: OnUnpacked | None = None) -> None:
    """Unpack an archive below `folder`; files are as old as the archive says.

    Raises:
        DatasetError: if it is no archive, is damaged or encrypted, holds links or devices or a path
            that leads outside or cannot be a file, or does not fit on the disk; everything is
            checked before the first file is written, but for damage.
    """
    with _opened(archive) as members:
        for member in members:
            _check(member, archive, folder)
        _check_names_are_one_file_each(members, archive)
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
def _opened(archive: Path) -> Iterator[list[_Member]]:
    """Open an archive, yield what it holds, and close it."""
    with _told_if_damaged(archive):
        if not archive.stat().st_size:
            raise DatasetError(f"{archive}: is empty, no archive")
        opened: zipfile.ZipFile | tarfile.TarFile
        if zipfile.is_zipfile(archive):
            opened = zipfile.ZipFile(archive)
            members = [_zipped(opened, info) for info in opened.infolist()]
        else:
            opened = _tar(archive)
            members = [_tarred(opened, info) for info in opened.getmembers()]
            _read_to_the_end(opened)
    with opened:
        yield members


@contextmanager
def _told_if_damaged(archive: Path) -> Iterator[None]:
    """Turn what reading an archive raises into one line; not for what writing raises."""
    try:
        yield
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"{archive}: no such file") from error
    except DAMAGE as error:
        raise DatasetError(f"{archive}: not a readable archive: {error}") from error


def _tar(archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(archive)
    except tarfile.ReadError as error:
        # Its text is a line for each compression that it tried.
        raise tarfile.ReadError("neither zip nor tar") from error


def _read_to_the_end(opened: tarfile.TarFile) -> None:
    """Raise unless the last member is followed by the end of the archive and nothing else.

    Reading on is also what makes gzip, xz and bz2 compare their checksums.
    """
    file = opened.fileobj
    assert file is not None
    file.seek(opened.offset)
    mark = file.read(tarfile.BLOCKSIZE)
    if len(mark) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it stops before its end")
    after = mark
    while after:
        if after.count(0) != len(after):
            raise tarfile.ReadError(f"damaged {opened.offset:,} bytes after its start")
        after = file.read(COPIED_AT_ONCE)


def _zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = stat.S_IFMT(info.external_attr >> 16)
    # `orig_filename` is what the archive says; `filename` has been made harmless.
    name = _slashed(info.orig_filename)
    folder = info.is_dir() or name.endswith("/")
    kind = "folder" if folder else "file" if mode in (0, stat.S_IFREG) else "link"
    try:
        seconds = calendar.timegm((*info.date_time, 0, 0, 0))
    except ValueError:
        seconds = 0  # Month 0, which some programs write for "unknown".
    return _Member(name, info.file_size, kind, seconds, lambda: archive.open(info))


def _tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    kind = "file" if info.isreg() else "folder" if info.isdir() else "link or device"

    def content() -> IO[bytes]:
        opened = archive.extractfile(info)
        assert opened is not None, "only asked of regular files"
        return opened

    seconds = min(max(int(info.mtime), 0), YEAR_2106)
    return _Member(_slashed(info.name), info.size, kind, seconds, content)


def _slashed(name: str) -> str:
    """Return a name with the separators of archives; some programs on Windows write their own."""
    return name.replace("\\", "/")


def _check(member: _Member, archive: Path, folder: Path) -> None:
    if member.kind not in ("file", "folder"):
        raise DatasetError(f"{archive}: holds a {member.kind}, `{member.name}`: not unpacked")
    path = PurePosixPath(member.name)
    drive = ":" in (path.parts[0] if path.parts else "")
    if path.is_absolute() or drive or ".." in path.parts or "\0" in member.name:
        raise DatasetError(f"{archive}: `{member.name}` would be written outside its folder")
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > LONGEST_NAME or len(os.fsencode(folder / member.name)) >= LONGEST_PATH:
        raise DatasetError(f"{archive}: `{member.name[:60]}...` is too long a name for a file")


def _check_names_are_one_file_each(members: Sequence[_Member], archive: Path) -> None:
    named = Counter(PurePosixPath(each.name) for each in members if each.kind == "file")
    twice = sorted(path for path, count in named.items() if count > 1)
    if twice:
        raise DatasetError(f"{archive}: `{twice[0]}` is twice in it")
    files = set(named)
    folders = {PurePosixPath(each.name) for each in members if each.kind == "folder"}
    folders |= {parent for path in files for parent in path.parents}
    for path in sorted(files & folders):
        raise DatasetError(f"{archive}: `{path}` is both a file and a folder in it")


def _is_shadow(name: str) -> bool:
    """Whether a file is one that macOS adds to archives beside the real one."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith("._")


def _write(member: _Member, path: Path, archive: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    left = member.size
    with path.open("wb") as target:
        for piece in _pieces(member, archive):
            left -= len(piece)
            if left < 0:
                raise DatasetError(f"{archive}: `{member.name}` is larger than the archive says")
            target.write(piece)
    # As old as in the archive: unpacked again, it is the file that was read before.
    os.utime(path, (member.seconds, member.seconds))


def _pieces(member: _Member, archive: Path) -> Iterator[bytes]:
    with _told_if_damaged(archive):
        source = member.content()
    with source:
        while True:
            with _told_if_damaged(archive):
                piece = source.read(COPIED_AT_ONCE)
            if not piece:
                return
            yield piece
