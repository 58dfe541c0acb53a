"""Signals in the workers of a Ray that a driver started: they do not end it, and end what it starts.

Such a worker begins with the signals blocked that ask a driver to stop (`cluster.session.processes`), and so would every process
that a method starts in it: none could be asked to end. So the worker takes them and does nothing, and what it
starts has them as usual. Sent to the workers as it is, so it imports nothing of ours.
"""

import os
import signal
import threading
from collections.abc import Collection
from types import FrameType


def take_and_do_nothing(numbers: Collection[signal.Signals]) -> None:
    """Take signals that are blocked in this thread, the main one; nothing where they are not blocked."""
    if not set(numbers) <= signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return  # Of a Ray that others started and end in their way; or done before.
    for number in numbers:
        # Not ignored: a program that is started would ignore them, too.
        signal.signal(number, _do_nothing)
    forking = _Forking(numbers)
    os.register_at_fork(
        before=forking.begin, after_in_parent=forking.end, after_in_child=forking.end_in_child
    )
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Go on: the driver asks for a checkpoint in its own way."""


class _Forking(threading.local):
    """Has signals wait while a thread forks: one for the fork must not find a handler that is not its own."""

    def __init__(self, numbers: Collection[signal.Signals]) -> None:
        self._numbers, self._before = numbers, set[int]()

    def begin(self) -> None:
        self._before = set(signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers))

    def end(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def end_in_child(self) -> None:
        """Have signals end the fork, as they end any new process."""
        for number in self._numbers:
            if signal.getsignal(number) is _do_nothing:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before - set(self._numbers))
