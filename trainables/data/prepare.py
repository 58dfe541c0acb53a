"""From a release, or from a program, to a prepared dataset in a home folder.

Every file that cannot be used is found before anything is refused, so that a release is mended in
one go. Nothing half-prepared is ever usable; what was read before an interruption is not read again
(`parts`), and archives are unpacked beside the dataset for as long as it takes.
"""

import errno
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from trainables.data.archive import is_archive, unpack
from trainables.data.errors import (
    BadImageError,
    BadReleaseError,
    DatasetCountError,
    DatasetError,
    DatasetLayoutError,
)
from trainables.data.images import read_sample
from trainables.data.info import DatasetInfo, Entry, Found, Read, Sample
from trainables.data.parts import Parts
from trainables.data.prepared import Prepared, find_prepared, folder_of
from trainables.data.store import exclusive, write_dataset

IN_FLIGHT = 4  # Images per worker that are read ahead of the one being written.
PART = 256  # Images after which an interruption loses nothing.
LEVELS_ABOVE = 2  # Folders above the named one in which a release is looked for.
BYTES_PER_PIXEL = 4  # Red, green, blue, label.

OnProgress = Callable[[int, int], None]
"""Called with the images written so far and the images there will be."""


@dataclass(frozen=True, kw_only=True)
class How:
    """How to read a release; changes no pixel."""

    workers: int = 1
    """Processes that read images."""
    strict: bool = True
    """Insist on the number of images of the release."""
    skip_bad: bool = False
    """Leave out files that cannot be used, and record which."""
    on_progress: OnProgress | None = None


def prepare(
    info: DatasetInfo,
    source: Path | Sequence[Path] | None,
    home: Path,
    *,
    image_size: int,
    images: int | None = None,
    how: How | None = None,
) -> Prepared:
    """Prepare a dataset for networks that see `image_size` pixels; nothing is done twice.

    Args:
        source: folder of the release or a parent of it, an archive, or several of these; unused for
            generated datasets.
        images: how many to generate; `info.expected` by default.

    Raises:
        DatasetError: if the release is not under `source`, incomplete, or holds bad files; if
            there is no space for it; or if this dataset cannot be prepared.
    """
    how = how or How()
    if images is not None and (not info.generated or images < 1):
        raise DatasetError(f"`{info.name}`: cannot make {images} images")
    folder = folder_of(home, info, image_size)
    side = info.stored_side(image_size)
    with exclusive(folder):
        wanted = (images or info.expected) if info.generated or how.strict else None
        present = find_prepared(home, info, image_size)
        if present and _complete(present, wanted, how):
            return present
        with _told_if_full(folder):
            if info.generate:
                total = images or info.expected
                samples = _reported(info.generate(total, side), total, how.on_progress)
                return write_dataset(folder, info, samples, side)
            with _root(info, source, folder) as root, _told_where(root):
                return _from_release(info, root.folder, folder, side, how)


def _complete(present: Prepared, wanted: int | None, how: How) -> bool:
    skipped = len(present.skipped) if how.skip_bad else 0
    return wanted is None or present.images == wanted or 0 < wanted - present.images <= skipped


def _from_release(info: DatasetInfo, root: Path, folder: Path, side: int, how: How) -> Prepared:
    found = _found(info, root, how)
    problems = list(found.problems)
    _require_space(folder, len(found.entries), side)
    parts = Parts(folder.with_name(f".{folder.name}.parts"), info, side)
    read = _read(info, found.entries, side, parts=parts, problems=problems, how=how)
    samples = _reported(_whole(read, root, problems, how), len(found.entries), how.on_progress)
    prepared = write_dataset(folder, info, samples, side, skipped=problems)
    parts.remove()
    return prepared


def _found(info: DatasetInfo, root: Path, how: How) -> Found:
    """Return the labelled images of a release, sorted by id."""
    found = _looked_for(info, root)
    entries = tuple(sorted(found.entries, key=lambda entry: entry.id))
    if how.strict and not found.problems and len(entries) != info.expected:
        raise DatasetCountError(
            f"{root}: `{info.name}` has {info.expected} labelled images, {len(entries)} are here; "
            "--any-count takes them all the same"
        )
    return Found(entries, found.problems)


def _looked_for(info: DatasetInfo, root: Path) -> Found:
    """Return what is below a folder; where it is one too deep, say which would be right."""
    assert info.find is not None
    try:
        return info.find(root)
    except DatasetLayoutError as error:
        for above in islice(root.absolute().parents, LEVELS_ABOVE):
            if above in (Path.home(), *Path.home().parents):
                break  # Not the place for a release, and a long search.
            if _is_in(info, above):
                raise DatasetLayoutError(f"{error}; they are in {above}, name that") from error
        raise


def _is_in(info: DatasetInfo, folder: Path) -> bool:
    assert info.find is not None
    with suppress(DatasetError):
        return bool(info.find(folder).entries)
    return False


class _Root(NamedTuple):
    """Where to look for a release."""

    folder: Path
    came_from: Mapping[str, str]
    """Archive, as the user named it, by the folder that it was unpacked to."""


@contextmanager
def _told_where(root: _Root) -> Iterator[None]:
    """Name the user's archives in what is told, not the folders they were unpacked to."""

    def plain(text: str) -> str:
        for place, archive in root.came_from.items():
            text = text.replace(place, archive)
        return text.replace(str(root.folder), " and ".join(root.came_from.values()))

    try:
        yield
    except BadReleaseError as error:
        if not root.came_from:
            raise
        where = " and ".join(root.came_from.values())
        raise BadReleaseError(where, [plain(problem) for problem in error.problems]) from error
    except DatasetError as error:
        if not root.came_from:
            raise
        raise type(error)(plain(str(error))) from error


@contextmanager
def _root(
    info: DatasetInfo, source: Path | Sequence[Path] | None, folder: Path
) -> Iterator[_Root]:
    """Yield the folder to look for a release in, its archives unpacked for as long as it takes."""
    if not source:
        raise DatasetError(f"`{info.name}`: name the folder of the release, from {info.url}")
    sources = [source] if isinstance(source, Path) else list(source)
    for path in sources:
        if not path.exists():
            raise DatasetLayoutError(f"{path}: no such folder or archive")
        if not path.is_dir() and not is_archive(path):
            raise DatasetLayoutError(f"{path}: neither a folder nor a zip or tar archive")
    if len(sources) == 1 and sources[0].is_dir():
        yield _Root(sources[0], {})
        return
    unpacked = folder.with_name(f".{folder.name}.unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)
    came_from = {}
    try:
        for number, path in enumerate(sources):
            place = unpacked / str(number) / path.name.partition(".")[0]
            if path.is_dir():
                place.parent.mkdir(parents=True, mode=0o700)
                place.symlink_to(path.absolute(), target_is_directory=True)
            else:
                unpack(path, place)
            came_from[str(place)] = str(path)
        yield _Root(unpacked, came_from)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _require_space(folder: Path, images: int, side: int) -> None:
    """Raise a DatasetError unless the dataset and its parts fit on the disk."""
    needed = 2 * images * side * side * BYTES_PER_PIXEL
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise DatasetError(
            f"{folder.parent}: no space left: {images} images of {side} px need {needed / 1e9:.2f} GB "
            f"for a while, {free / 1e9:.2f} GB are free"
        )


@contextmanager
def _told_if_full(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DatasetError(f"{folder.parent}: no space left, nothing was prepared") from error


def _read(
    info: DatasetInfo,
    entries: Sequence[Entry],
    side: int,
    *,
    parts: Parts,
    problems: list[str],
    how: How,
) -> Iterator[Sample]:
    """Yield the samples in order of the entries; append what is wrong with the others."""
    assert info.read is not None
    chunks = [entries[first : first + PART] for first in range(0, len(entries), PART)]
    known = [parts.read(chunk) for chunk in chunks]
    missing = [
        entry
        for chunk, samples in zip(chunks, known, strict=True)
        if not samples
        for entry in chunk
    ]
    reading = _attempts(info.read, missing, side, how.workers)
    for number, chunk in enumerate(chunks):
        samples = known[number]
        if not samples:
            results = list(islice(reading, len(chunk)))
            samples = [result for result in results if isinstance(result, Sample)]
            bad = [result for result in results if isinstance(result, str)]
            problems += bad
            if not bad:
                parts.write(chunk, samples)
        known[number] = None
        yield from samples


def _whole(
    samples: Iterator[Sample], root: Path, problems: list[str], how: How
) -> Iterator[Sample]:
    """Pass the samples on and, at their end, refuse a release with bad files unless told."""
    yield from samples
    if problems and not how.skip_bad:
        raise BadReleaseError(str(root), problems)


def _attempts(
    read: Read, entries: Sequence[Entry], side: int, workers: int
) -> Iterator[Sample | str]:
    """Yield a sample, or what is wrong with it, for each entry in order."""
    if workers == 1 or len(entries) <= 1:
        return (_attempt(read, entry, side) for entry in entries)
    return _in_parallel(read, entries, side, workers)


def _attempt(read: Read, entry: Entry, side: int) -> Sample | str:
    try:
        return read_sample(read, entry, side)
    except BadImageError as error:
        return str(error)


def _in_parallel(
    read: Read, entries: Sequence[Entry], side: int, workers: int
) -> Iterator[Sample | str]:
    """Yield the results in order, reading only a few images ahead."""
    # Spawned: a fork of a process with threads, such as Arrow's or torch's, may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = iter(entries)
        reading: deque[Future[Sample | str]] = deque()
        try:
            while True:
                for entry in islice(waiting, IN_FLIGHT * workers - len(reading)):
                    reading.append(pool.submit(_attempt, read, entry, side))
                if not reading:
                    return
                yield reading.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _reported(
    samples: Iterator[Sample], total: int, on_progress: OnProgress | None
) -> Iterator[Sample]:
    for count, sample in enumerate(samples, start=1):
        yield sample
        if on_progress:
            on_progress(count, total)
