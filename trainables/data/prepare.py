"""From a release, or from a program, to a prepared dataset in a home folder.

Every file that cannot be used is found before anything is refused, so that a release is mended in
one go. Nothing half-prepared is ever usable; what was read before an interruption is not read again
(`parts`), and archives are unpacked beside the dataset for as long as it takes.
"""

import errno
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from trainables.data.errors import (
    MOST_LISTED,
    BadReleaseError,
    DatasetChangedError,
    DatasetCountError,
    DatasetError,
    DatasetLayoutError,
)
from trainables.data.files.readers import Readers
from trainables.data.files.reading import attempts
from trainables.data.info import DatasetInfo, Entry, Found, Sample
from trainables.data.parts import Parts
from trainables.data.prepared import Prepared, find_prepared, folder_of, read_prepared
from trainables.data.releases.sources import (
    Root,
    as_named,
    named_sources,
    opened_root,
    state_of_archives,
    state_of_entries,
    told_where,
)
from trainables.data.store import (
    exclusive,
    require_every_class,
    verify,
    write_dataset,
    write_private,
)

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
    readers: Readers | None = None
    """As many, if they were started before."""
    strict: bool = True
    """Insist on the number of images of the release."""
    skip_bad: bool = False
    """Leave out files that cannot be used, and record which."""
    allow_empty_class: bool = True
    """Take a dataset though no pixel has one of its classes."""
    again: bool = False
    """Read everything again, whatever is prepared."""
    on_progress: OnProgress | None = None
    on_again: Callable[[str], None] | None = None
    """Told why a dataset that is there is prepared again."""


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

    What is prepared is prepared again if its content is not what it was, or if the files that it was
    read from have changed since, which their paths, sizes and times tell.

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
        present = None if how.again else _intact(home, info, image_size, how)
        with _told_if_full(folder), _listed(folder):
            if info.generate:
                total = images or info.expected
                if present and present.images == total:
                    return present
                samples = _reported(info.generate(total, side), total, how.on_progress)
                return write_dataset(folder, info, samples, side, found=total)
            if present and not _complete(present, info, how):
                present = None
            if present and not how.allow_empty_class:
                require_every_class(present)
            if present and not source:
                return present
            sources = named_sources(info, source)
            return _from_sources(info, sources, folder, present=present, side=side, how=how)


def _intact(home: Path, info: DatasetInfo, image_size: int, how: How) -> Prepared | None:
    """Return the prepared dataset if its content is still what was prepared."""
    folder = folder_of(home, info, image_size)
    described = read_prepared(folder)
    if described is None or described.version != info.version:
        return None
    present = find_prepared(home, info, image_size)
    if present is None:
        _say_again(how, f"{folder}: the file of images is missing or torn")
        return None
    try:
        verify(folder)
    except DatasetChangedError as error:
        _say_again(how, str(error))
        return None
    return present


def _complete(present: Prepared, info: DatasetInfo, how: How) -> bool:
    """Whether a preparation told what this one is told would have ended the same."""
    counted = not how.strict or info.expected in (present.found, present.images)
    return counted and (how.skip_bad or not present.skipped)


def _say_again(how: How, why: str) -> None:
    if how.on_again:
        how.on_again(why)


def _from_sources(
    info: DatasetInfo,
    sources: Sequence[Path],
    folder: Path,
    *,
    present: Prepared | None,
    side: int,
    how: How,
) -> Prepared:
    """Read a release, unless what is present was read from the same files."""
    state = state_of_archives(sources)
    if present and present.sources == state:
        return present
    with opened_root(sources, folder) as root, told_where(root):
        found = _looked_for(info, root.folder)
        state = state or state_of_entries(found.entries)
        if present:
            if present.sources == state:
                return present
            changed = "have changed since it was prepared" if present.sources else "were not noted"
            _say_again(how, f"`{info.name}`: the files it was read from {changed}")
        _require_count(info, found, root.folder, how)
        problems = list(found.problems)
        _require_space(folder, len(found.entries), side)
        parts = Parts(folder.with_name(f".{folder.name}.parts"), info, side)
        read = _read(info, found.entries, side, parts=parts, problems=problems, how=how)
        whole = _whole(read, root, problems, how)
        samples = _reported(whole, len(found.entries), how.on_progress)
        prepared = write_dataset(
            folder,
            info,
            samples,
            side,
            skipped=problems,
            sources=state,
            found=len(found.entries) + found.lost,
            allow_empty_class=how.allow_empty_class,
        )
        parts.remove()
        return prepared


def _require_count(info: DatasetInfo, found: Found, root: Path, how: How) -> None:
    """Raise a DatasetCountError unless what is here, with or without the bad files, is the release."""
    here = len(found.entries) + found.lost
    if not how.strict or (found.problems and not how.skip_bad):
        return  # Where bad files are not skipped, all are named first.
    if info.expected in (here, len(found.entries)):
        return  # A stray file beside the whole release is skipped like any bad one.
    lost = f", {found.lost} of them without image or mask" if found.lost else ""
    raise DatasetCountError(
        f"{root}: `{info.name}` has {info.expected} labelled images, {here} are here{lost}; "
        "--any-count takes them all the same"
    )


def _looked_for(info: DatasetInfo, root: Path) -> Found:
    """Return what is below a folder by id; where it is one too deep, say which would be right."""
    assert info.find is not None
    try:
        found = info.find(root)
    except DatasetLayoutError as error:
        if above := _release_above(info, root):
            raise DatasetLayoutError(f"{error}; they are in {above}, name that") from error
        raise
    if not found.entries and (above := _release_above(info, root)):
        raise DatasetLayoutError(
            f"{root}: no image of `{info.name}` with its mask is here; they are in {above}, name that"
        )
    return found._replace(entries=tuple(sorted(found.entries, key=lambda each: each.id)))


def _release_above(info: DatasetInfo, root: Path) -> Path | None:
    """Return the folder above that holds the release of which this one holds a part."""
    assert info.find is not None
    for above in islice(root.absolute().parents, LEVELS_ABOVE):
        if above in (Path.home(), *Path.home().parents):
            break  # Not the place for a release, and a long search.
        with suppress(DatasetError):
            entries = info.find(above).entries
            # Files of this folder are among them, or it is another copy of the release.
            if any(
                path.absolute().is_relative_to(root.absolute())
                for entry in entries
                for path in (entry.image, *entry.masks)
            ):
                return above
    return None


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


@contextmanager
def _listed(folder: Path) -> Iterator[None]:
    """Write problems that are too many for a message to a file beside the dataset."""
    listing = folder.with_name(f"{folder.name}.problems.txt")
    try:
        yield
    except BadReleaseError as error:
        if len(error.problems) <= MOST_LISTED:
            raise
        write_private(listing, "".join(f"{problem}\n" for problem in error.problems))
        raise BadReleaseError(error.where, error.problems, listing=listing) from error
    listing.unlink(missing_ok=True)


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
    chunks = [entries[first : first + PART] for first in range(0, len(entries), PART)]
    known = [parts.read(chunk) for chunk in chunks]
    missing = [
        entry
        for chunk, samples in zip(chunks, known, strict=True)
        if not samples
        for entry in chunk
    ]
    reading = attempts(info, missing, side, how.workers, how.readers)
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
    samples: Iterator[Sample], root: Root, problems: list[str], how: How
) -> Iterator[Sample]:
    """Pass the samples on and, at their end, refuse a release with bad files unless told."""
    yield from samples
    if problems and not how.skip_bad:
        raise BadReleaseError(str(root.folder), problems)
    problems[:] = [as_named(root, problem) for problem in problems]


def _reported(
    samples: Iterator[Sample], total: int, on_progress: OnProgress | None
) -> Iterator[Sample]:
    for count, sample in enumerate(samples, start=1):
        yield sample
        if on_progress:
            on_progress(count, total)
