"""From a release, or from a program, to a prepared dataset in a home folder."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from trainables.data.errors import DatasetCountError, DatasetError
from trainables.data.images import read_sample
from trainables.data.info import DatasetInfo, Entry, Read, Sample
from trainables.data.prepared import Prepared, find_prepared, folder_of
from trainables.data.store import exclusive, write_dataset

IN_FLIGHT = 4  # Images per worker that are read ahead of the one being written.

OnProgress = Callable[[int, int], None]
"""Called with the images written so far and the images there will be."""


def prepare(
    info: DatasetInfo,
    source: Path | None,
    home: Path,
    *,
    image_size: int,
    images: int | None = None,
    workers: int = 1,
    strict: bool = True,
    on_progress: OnProgress | None = None,
) -> Prepared:
    """Prepare a dataset for networks that see `image_size` pixels; nothing is done twice.

    Args:
        source: folder of the unpacked release, or a parent of it; unused for generated datasets.
        images: how many to generate; `info.expected` by default.
        workers: processes that read images.
        strict: insist on the number of images of the release.

    Raises:
        DatasetError: if the release is not under `source`, incomplete, or holds bad files; or if
            this dataset cannot be prepared.
    """
    if images is not None and (not info.generated or images < 1):
        raise DatasetError(f"`{info.name}`: cannot make {images} images")
    folder = folder_of(home, info.name, image_size)
    side = info.stored_side(image_size)
    with exclusive(folder):
        wanted = (images or info.expected) if info.generated or strict else None
        present = find_prepared(home, info.name, image_size)
        if present and wanted in (present.images, None):
            return present
        if info.generate:
            total = images or info.expected
            samples = info.generate(total, side)
        else:
            entries = _entries(info, source, strict=strict)
            total, samples = len(entries), _read(info, entries, side, workers)
        return write_dataset(folder, info, _reported(samples, total, on_progress), side)


def _entries(info: DatasetInfo, source: Path | None, *, strict: bool) -> list[Entry]:
    """Return the labelled images of a release, sorted by id."""
    if info.find is None:
        raise DatasetError(
            f"`{info.name}` cannot be prepared by this release yet; `{info.name}-like` is a "
            "generated stand-in for it"
        )
    if source is None:
        raise DatasetError(f"`{info.name}`: name the folder of the release, from {info.url}")
    entries = sorted(info.find(source), key=lambda entry: entry.id)
    if strict and len(entries) != info.expected:
        raise DatasetCountError(
            f"{source}: `{info.name}` has {info.expected} labelled images, {len(entries)} are here"
        )
    return entries


def _read(
    info: DatasetInfo, entries: Sequence[Entry], side: int, workers: int
) -> Iterator[Sample]:
    """Yield the samples in order of the entries."""
    assert info.read is not None
    if workers == 1:
        return (read_sample(info.read, entry, side) for entry in entries)
    return _read_in_parallel(info.read, entries, side, workers)


def _read_in_parallel(
    read: Read, entries: Sequence[Entry], side: int, workers: int
) -> Iterator[Sample]:
    """Yield the samples in order, reading only a few images ahead."""
    # Spawned: a fork of a process with threads, such as Arrow's or torch's, may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = iter(entries)
        reading: deque[Future[Sample]] = deque()
        try:
            while True:
                for entry in islice(waiting, IN_FLIGHT * workers - len(reading)):
                    reading.append(pool.submit(read_sample, read, entry, side))
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
