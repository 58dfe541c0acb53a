"""Processes that read images; started before it is known which, they are ready when it is.

They are forked where that is safe: of a program with one thread, before it loads what has threads of its
own, such as Arrow. What they need is loaded once then. Elsewhere, each is spawned and loads it anew. No
NumPy here, whose threads would count.
"""

import ctypes
import os
import pickle
import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self

NEEDED = ("trainables.data.reading", "trainables.data.own.reading")
"""Modules that reading takes, and with them NumPy and Pillow."""
THREADS = Path("/proc/self/task")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # Of `mallopt`, in malloc.h.
MAPPED_ABOVE, KEPT = 32 * 2**20, 64 * 2**20  # Bytes; the first is the most that glibc takes.


class Readers:
    """Some processes, for as long as its context is open.

    Args:
        workers: how many; with one, reading is left to the caller's own process.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.workers > 1:
            how = get_context("fork" if _alone() else "spawn")
            _load()
            self._pool = ProcessPoolExecutor(self.workers, mp_context=how, initializer=_begin)
            for _ in range(self.workers):
                self._pool.submit(_load)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, read: bytes, *what: Any) -> Future[Any]:
        """Have one of the processes call a pickled function, which each of them unpickles once."""
        assert self._pool is not None, "only asked of several, while they are there"
        return self._pool.submit(_call, read, what)


def _alone() -> bool:
    """Whether this process has one thread, so that a fork of it has all there is.

    Those that NumPy's linear algebra starts later end before a fork, of themselves.
    """
    with suppress(OSError):
        return len(os.listdir(THREADS)) == 1
    return False


def _load() -> None:
    for name in NEEDED:
        import_module(name)
    import_module("PIL.Image").preinit()


def _call(read: bytes, what: tuple[Any, ...]) -> Any:
    return _unpickled(read)(*what)


@lru_cache(maxsize=2)
def _unpickled(read: bytes) -> Callable[..., Any]:
    return pickle.loads(read)  # type: ignore[no-any-return]


def _begin() -> None:
    _leave_signals_to_parent()
    _end_with_parent()
    _keep_memory()


def _leave_signals_to_parent() -> None:
    """Take signals as a new process does, whatever handlers a fork has, and Ctrl-C not at all.

    It goes to all; the parent says when to end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # As `nohup` has it.
            signal.signal(number, signal.SIG_DFL)


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
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True, name="end-with-parent").start()
