"""Reading the images of a release, in this process or in several.

Results come in the order of the entries, from any number of processes; only a few images are read
ahead of the one asked for. What is wrong with an image is a result like any other.
"""

import ctypes
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
from multiprocessing import connection, get_context, parent_process
from threading import Thread
from typing import NamedTuple

from trainables.data.errors import BadImageError, DatasetError
from trainables.data.images import read_sample
from trainables.data.info import DatasetInfo, Entry, Form, Read, Sample

IN_FLIGHT = 4  # Images per worker that are read ahead of the one asked for.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # Of `mallopt`, in malloc.h.
MAPPED_ABOVE, KEPT = 32 * 2**20, 64 * 2**20  # Bytes; the first is the most that glibc takes.


class _Reading(NamedTuple):
    entry: Entry
    result: Future[Sample | str]


def attempts(
    info: DatasetInfo, entries: Sequence[Entry], side: int, workers: int
) -> Iterator[Sample | str]:
    """Yield a sample, or what is wrong with it, for each entry in order.

    Raises:
        DatasetError: if the system ended a process that was reading.
    """
    assert info.read is not None
    form = info.form(side)
    if workers == 1 or len(entries) <= 1:
        return (_attempt(info.read, entry, form) for entry in entries)
    return _in_parallel(info.read, entries, form, workers)


def _attempt(read: Read, entry: Entry, form: Form) -> Sample | str:
    try:
        return read_sample(read, entry, form)
    except BadImageError as error:
        return str(error)


def _in_parallel(
    read: Read, entries: Sequence[Entry], form: Form, workers: int
) -> Iterator[Sample | str]:
    waiting = iter(entries)
    reading: deque[_Reading] = deque()
    # Spawned: a fork of a process with threads, such as Arrow's or torch's, may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin) as pool:
        try:
            while True:
                for entry in islice(waiting, IN_FLIGHT * workers - len(reading)):
                    future = pool.submit(_attempt, read, entry, form)
                    reading.append(_Reading(entry, future))
                if not reading:
                    return
                result = reading[0].result.result()
                reading.popleft()
                yield result
        except BrokenProcessPool as error:
            raise DatasetError(
                f"{reading[0].entry.image}: a process that read this or one of the "
                f"{len(reading) - 1} images after it was killed, probably for lack of memory; what "
                "was read before is kept, and `--workers 1` needs the least"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    _end_with_parent()
    _keep_memory()


def _keep_memory() -> None:
    """Let the memory of an image be used for the next one, where glibc gives it.

    Returned and asked for again each time, it comes in thousands of pages that the system must clear.
    """
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, MAPPED_ABOVE)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)


def _end_with_parent() -> None:
    """Make a reading process end when the one that started it does, however that is.

    It waits for work on a pipe that its siblings hold open too, and so would wait for ever.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to all; the parent says when to end.
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True, name="end-with-parent").start()
