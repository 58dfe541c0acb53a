"""Reading the images of a release, in this process or in several.

Results come in the order of the entries, from any number of processes; only a few images are read
ahead of the one asked for. What is wrong with an image is a result like any other.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from trainables.data.errors import BadImageError, DatasetError
from trainables.data.files.images import read_sample
from trainables.data.files.readers import IN_FLIGHT, ReaderLostError, Readers
from trainables.data.info import DatasetInfo, Entry, Form, Read, Sample

AT_ONCE = 4  # Images that are asked for together.


def attempts(
    info: DatasetInfo,
    entries: Sequence[Entry],
    side: int,
    workers: int,
    readers: Readers | None = None,
) -> Iterator[Sample | str]:
    """Yield a sample, or what is wrong with it, for each entry in order.

    Args:
        workers: processes to start, unless there are `readers`.

    Raises:
        DatasetError: if the system ended a process that was reading.
    """
    assert info.read is not None
    form = info.form(side)
    if workers == 1 or len(entries) <= 1:
        return (_attempt(info.read, form, entry) for entry in entries)
    ours = nullcontext(readers) if readers else Readers(workers)
    return _in_parallel(info.read, entries, form, ours)


def _attempt(read: Read, form: Form, entry: Entry) -> Sample | str:
    try:
        return read_sample(read, entry, form)
    except BadImageError as error:
        return str(error)


def _attempts(read: Read, form: Form, entries: Sequence[Entry]) -> list[Sample | str]:
    return [_attempt(read, form, entry) for entry in entries]


def _in_parallel(
    read: Read, entries: Sequence[Entry], form: Form, ours: AbstractContextManager[Readers]
) -> Iterator[Sample | str]:
    with ours as readers:
        together = max(1, min(AT_ONCE, len(entries) // (IN_FLIGHT * readers.workers)))
        groups = [entries[i : i + together] for i in range(0, len(entries), together)]
        count = 0
        try:
            for results in readers.results(partial(_attempts, read, form), groups):
                count += len(results)
                yield from results
        except ReaderLostError as error:
            others = min(len(entries) - count, together * IN_FLIGHT * readers.workers) - 1
            raise DatasetError(
                f"{entries[count].image}: a process that read this or one of the {others} images after "
                "it was killed, probably for lack of memory; what was read before is kept, and "
                "`--workers 1` needs the least"
            ) from error
