"""Reading the images of a release, in this process or in several.

Results come in the order of the entries, from any number of processes; only a few images are read
ahead of the one asked for. What is wrong with an image is a result like any other.
"""

import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from typing import NamedTuple

from trainables.data.errors import BadImageError, DatasetError
from trainables.data.images import read_sample
from trainables.data.info import DatasetInfo, Entry, Form, Read, Sample
from trainables.data.readers import Readers

AT_ONCE = 4  # Images that are asked for together.
IN_FLIGHT = 2  # Of such groups per process that are read ahead of the one asked for.


class _Reading(NamedTuple):
    entries: Sequence[Entry]
    result: Future[list[Sample | str]]


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
    sent = pickle.dumps(partial(_attempts, read, form))
    with ours as readers:
        yield from _results(sent, entries, readers)


def _results(sent: bytes, entries: Sequence[Entry], readers: Readers) -> Iterator[Sample | str]:
    """Yield what a pickled function, of several entries at once, returns for each."""
    together = max(1, min(AT_ONCE, len(entries) // (IN_FLIGHT * readers.workers)))
    groups = (entries[first : first + together] for first in range(0, len(entries), together))
    reading: deque[_Reading] = deque()
    try:
        while True:
            for group in islice(groups, IN_FLIGHT * readers.workers - len(reading)):
                reading.append(_Reading(group, readers.submit(sent, group)))
            if not reading:
                return
            results = reading[0].result.result()
            reading.popleft()
            yield from results
    except BrokenProcessPool as error:
        unread = [entry for group in reading for entry in group.entries]
        raise DatasetError(
            f"{unread[0].image}: a process that read this or one of the "
            f"{len(unread) - 1} images after it was killed, probably for lack of memory; what "
            "was read before is kept, and `--workers 1` needs the least"
        ) from error
    finally:
        for each in reading:
            each.result.cancel()
