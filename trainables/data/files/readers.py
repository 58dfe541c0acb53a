"""Processes that read images; started before it is known which, they are ready when it is.

They are forked where that is safe: of a program with one thread, before it loads what has threads of its
own, such as Arrow. What they need is loaded once then. Elsewhere, each is spawned and loads it anew. No
NumPy here, whose threads would count.
"""

import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.machinery import PathFinder
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from traceback import format_exc
from types import TracebackType
from typing import Any, Self

IN_FLIGHT = 2  # Items per process that are asked for ahead of the one that is waited for.
THREADS = Path("/proc/self/task")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # Of `mallopt`, in malloc.h.
MAPPED_ABOVE, KEPT = 32 * 2**20, 64 * 2**20  # Bytes; the first is the most that glibc takes.


class ReaderLostError(Exception):
    """A process that was reading is gone."""


@dataclass(eq=False)
class _Reader:
    """One process, and what it was asked for and has not answered yet."""

    process: BaseProcess
    ours: Connection
    asked: deque[int] = field(default_factory=deque)

    def tell(self, call: Callable[[Any], Any]) -> None:
        """Say by what function it is to answer from now on."""
        with _lost():
            self.ours.send((call, None))

    def ask(self, number: int, item: Any) -> None:
        """Ask for what the function returns for an item."""
        with _lost():
            self.ours.send((None, item))
        self.asked.append(number)

    def answer(self) -> tuple[int, Any]:
        """Wait for the answer to what was asked first; return its number and itself."""
        with _lost():
            result = self.ours.recv()
        return self.asked.popleft(), result


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise ReaderLostError from error


class Readers:
    """Some processes, for as long as its context is open.

    Each has a pipe of its own, whose other end is nowhere else: one that is killed closes it, even in the
    middle of an answer, for which the pools of the standard library would wait for ever.

    Args:
        workers: how many; with one, reading is left to the caller's own process.
        needed: modules that reading will take, and with them NumPy and Pillow, to be loaded already.
    """

    def __init__(self, workers: int, needed: Sequence[str] = ()) -> None:
        self.workers, self._needed = workers, tuple(needed)
        self._readers: list[_Reader] = []

    def __enter__(self) -> Self:
        if self.workers > 1:
            how: Any = get_context("fork" if _alone() else "spawn")
            _load(self._needed)
            for _ in range(self.workers):
                ours, theirs = how.Pipe()
                process = how.Process(target=_serve, args=(theirs, self._needed), daemon=True)
                with _ours_first():
                    process.start()
                theirs.close()
                self._readers.append(_Reader(process, ours))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for reader in self._readers:
            reader.process.kill()  # There is nothing that it would have to put in order.
            reader.process.join()
            reader.ours.close()
        self._readers.clear()

    def results(self, call: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yield what a function returns for each item, in their order; what it raises is raised.

        Raises:
            ReaderLostError: if a process is gone.
        """
        for reader in self._readers:
            while reader.asked:  # By somebody who did not wait for it.
                reader.answer()
            reader.tell(call)
        done: dict[int, Any] = {}
        sent = 0
        for number in range(len(items)):
            while number not in done:
                while sent < min(len(items), number + IN_FLIGHT * self.workers):
                    min(self._readers, key=lambda each: len(each.asked)).ask(sent, items[sent])
                    sent += 1
                for reader in _ready(self._readers):
                    answered, result = reader.answer()
                    done[answered] = result
            result = done.pop(number)
            if isinstance(result, Exception):
                raise result
            yield result


def _ready(readers: Sequence[_Reader]) -> list[_Reader]:
    """Return those that have an answer, or are gone; wait until there is one."""
    answering = wait([each.ours for each in readers if each.asked])
    return [each for each in readers if each.ours in answering]


def _serve(theirs: Connection, needed: Sequence[str]) -> None:
    """Answer what is asked through a pipe, until the end of this process."""
    _begin()
    _load(needed)
    inbox: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
    # What is asked is taken in meanwhile, so that whoever asks never waits for what was asked before.
    Thread(target=_take_in, args=(theirs, inbox), daemon=True, name="take-in").start()
    call: Any = None
    while True:
        fresh, item = inbox.get()
        if fresh is not None:
            call = fresh
            continue
        try:
            result = call(item)
        except Exception as error:  # noqa: BLE001 - raised where it was asked for
            error.add_note(format_exc())
            result = error
        theirs.send(result)


def _take_in(theirs: Connection, inbox: "SimpleQueue[tuple[Any, Any]]") -> None:
    with suppress(EOFError, OSError):  # The program that asks is gone.
        while True:
            inbox.put(theirs.recv())
    os._exit(1)


@contextmanager
def _ours_first() -> Iterator[None]:
    """Have a process that is spawned import our package from where this one did.

    It looks along the path and nowhere else, and another `trainables` may come first there: the working
    directory's, or that of `PYTHONPATH`.
    """
    package, before = __name__.partition(".")[0], list(sys.path)
    place = str(Path(sys.modules[package].__path__[0]).parent)
    found = (i for i, each in enumerate(before) if PathFinder.find_spec(package, [each]))
    sys.path.insert(next(found, len(before)), place)
    try:
        yield
    finally:
        sys.path[:] = before


def _alone() -> bool:
    """Whether this process has one thread, so that a fork of it has all there is.

    Those that NumPy's linear algebra starts later end before a fork, of themselves.
    """
    with suppress(OSError):
        return len(os.listdir(THREADS)) == 1
    return False


def _load(needed: Sequence[str]) -> None:
    for name in needed:
        import_module(name)
    import_module("PIL.Image").preinit()


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

    Siblings that were forked later hold the other end of its pipe, and so it would wait for ever.
    """
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True, name="end-with-parent").start()
