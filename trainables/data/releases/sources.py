"""Where a release is read from: folders and archives that a user names, and whether they changed."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from trainables.data.errors import BadReleaseError, DatasetError, DatasetLayoutError
from trainables.data.files.archive import is_archive, unpack
from trainables.data.info import DatasetInfo, Entry
from trainables.data.releases.release import walk


class Root(NamedTuple):
    """Where to look for a release."""

    folder: Path
    came_from: Mapping[str, str]
    """Archive, as the user named it, by the folder that it was unpacked to."""


def named_sources(info: DatasetInfo, source: Path | Sequence[Path] | None) -> tuple[Path, ...]:
    """Return the folders and archives that a user named.

    Raises:
        DatasetError: if there are none, or one is neither a folder nor an archive.
    """
    if not source:
        raise DatasetError(f"`{info.name}`: name the folder of the release, from {info.url}")
    sources = (source,) if isinstance(source, Path) else tuple(source)
    for path in sources:
        if not path.exists():
            raise DatasetLayoutError(f"{path}: no such folder or archive")
        if not path.is_dir() and not is_archive(path):
            raise DatasetLayoutError(f"{path}: neither a folder nor a zip or tar archive")
    return sources


def state_of_archives(sources: Sequence[Path]) -> str | None:
    """Return a digest that changes with the sources; None if they are folders only.

    Of an archive its own size and time tell, so that it need not be unpacked; of a folder beside it,
    those of every file.
    """
    if all(path.is_dir() for path in sources):
        return None
    return _digest(file for path in sources for file in _files(path))


def state_of_entries(entries: Sequence[Entry]) -> str:
    """Return a digest that changes when a file of a release does, and when one comes or goes."""
    return _digest(path for entry in entries for path in (entry.image, *entry.masks))


def file_state(path: Path) -> tuple[str, int, int]:
    """Return a path with size in bytes and time of change in ns: the same file as long as these are.

    A link that leads nowhere has a state too; reading it will say what is wrong.
    """
    try:
        status = path.stat()
    except OSError:
        return str(path), -1, -1
    return str(path), status.st_size, status.st_mtime_ns


@contextmanager
def opened_root(sources: Sequence[Path], folder: Path) -> Iterator[Root]:
    """Yield the folder to look for a release in, its archives unpacked for as long as it takes.

    Args:
        folder: that the dataset will have; archives are unpacked beside it.
    """
    if len(sources) == 1 and sources[0].is_dir():
        yield Root(sources[0], {})
        return
    unpacked = folder.with_name(f".{folder.name}.unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)
    came_from = {}
    try:
        for number, path in enumerate(sources):
            # Named by its state: what was read from another archive is not what is in this one.
            below = f"{number}-{_digest([path])[:8]}"
            place = unpacked / below / path.name.partition(".")[0]
            if path.is_dir():
                place.parent.mkdir(parents=True, mode=0o700)
                place.symlink_to(path.absolute(), target_is_directory=True)
            else:
                unpack(path, place)
            came_from[str(place)] = str(path)
        yield Root(unpacked, came_from)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


@contextmanager
def told_where(root: Root) -> Iterator[None]:
    """Name the user's archives in what is told, not the folders they were unpacked to."""
    try:
        yield
    except BadReleaseError as error:
        if not root.came_from:
            raise
        where = " and ".join(root.came_from.values())
        problems = [as_named(root, problem) for problem in error.problems]
        raise BadReleaseError(where, problems) from error
    except DatasetError as error:
        if not root.came_from:
            raise
        raise type(error)(as_named(root, str(error))) from error


def as_named(root: Root, text: str) -> str:
    """Return a text with the paths that the user knows."""
    for place, archive in root.came_from.items():
        text = text.replace(place, archive)
    if root.came_from:
        text = text.replace(str(root.folder), " and ".join(root.came_from.values()))
    return text


def _files(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        yield source
        return
    for folder, names in walk(source):
        yield from (folder / name for name in sorted(names))


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(json.dumps(file_state(path.absolute())).encode())
    return digest.hexdigest()
