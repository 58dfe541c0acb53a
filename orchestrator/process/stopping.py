"""Stopping on purpose: once lets a sweep drain, twice ends it at once; both can be resumed.

Ctrl-C, SIGTERM (`timeout`, systemd, `scancel`) and SIGHUP (a terminal that is closed) mean the same. The
exit status tells them apart, as everywhere: 128 and the number of the signal, so 130, 143 and 129.
"""

import contextlib
import errno
import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from orchestrator.errors import chain

Say = Callable[[str], None]

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# `timeout` sends its signal twice, to us and to our group; a session that ends, SIGTERM and SIGHUP.
ONE_ASKING_S = 1.0


class Carrier(Protocol):
    """What takes a file to where workers on other machines look for it: a home's mirror."""

    def carry(self, path: Path, /) -> None:
        """Have a file there as it is here."""

    def drop(self, path: Path, /) -> None:
        """Have a file there no more."""


class StoppedError(KeyboardInterrupt):
    """Somebody asked by a signal to stop now."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def status_of(number: int) -> int:
    """Return the exit status that tells of a signal."""
    return 128 + number


class StopFlag:
    """Whether somebody asked the sweep to stop; set by signal handlers, read by the sweep.

    A file says so to the workers, which then write a checkpoint with their next result: once Tune
    stops a trial, its worker has but a few seconds.
    """

    def __init__(self, file: Path, mirror: Carrier | None = None) -> None:
        """Start unset; a file that a killed sweep left behind is removed.

        Args:
            mirror: of the object store in which workers look for the file; None if they see it on a disk.
        """
        self.draining = False
        self.number = 0
        """The signal that asked for it; 0 if none did."""
        self.file, self._mirror = file, mirror
        file.unlink(missing_ok=True)
        if mirror is not None:
            mirror.drop(file)

    def drain(self) -> None:
        """Start nothing new; let what runs write a checkpoint and stop."""
        self.draining = True
        with contextlib.suppress(OSError):  # What runs is stopped all the same, if less gently.
            self.file.touch(mode=0o600)
            if self._mirror is not None:
                self._mirror.carry(self.file)


class _Drain:
    """Takes signals: the first drains, a second one ends at once."""

    def __init__(self, stop: StopFlag, say: Say) -> None:
        self._stop, self._say = stop, say
        self._asked_at, self._telling = 0.0, False

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._telling or self._same_asking(number):
            return
        if self._stop.draining:
            raise StoppedError(number)
        self._stop.number, self._asked_at = number, time.monotonic()
        self._telling = True
        self._stop.drain()
        let_go_of_closed_terminals()
        self._say("stopping: what runs writes a checkpoint first; Ctrl-C again stops at once")
        self._telling = False

    def _same_asking(self, number: int) -> bool:
        """Return whether a signal belongs to one that was taken in: nobody types so fast."""
        by_hand = signal.SIGINT in (number, self._stop.number)
        return not by_hand and time.monotonic() - self._asked_at < ONE_ASKING_S


@contextlib.contextmanager
def stopped_by_signals(stop: StopFlag, say: Say) -> Iterator[StopFlag]:
    """Let a signal set the flag, and a second one end the sweep at once; yields the flag."""
    with handled(_Drain(stop, say)):
        yield stop


@contextlib.contextmanager
def handled(on_signal: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have signals that ask to stop taken in by a function, and afterwards as before.

    SIGHUP stays ignored where it is: that is what `nohup` is for.
    """
    wanted = [n for n in ASKING if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {each: signal.signal(each, on_signal) for each in wanted}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def let_go_of_closed_terminals() -> None:
    """Have what is still printed to a terminal that was closed go nowhere, instead of failing."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            try:
                termios.tcgetattr(stream.fileno())
            except termios.error as error:
                if error.args[0] == errno.EIO:
                    os.dup2(os.open(os.devnull, os.O_RDWR), stream.fileno())


def run_until_asked(command: Callable[[], Any]) -> None:
    """Run a whole command; a signal ends it as Ctrl-C does, with the exit status of the signal.

    What it began is put in order on the way out, which the system's own way of ending would not do.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        let_go_of_closed_terminals()
        raise StoppedError(number)

    try:
        with handled(on_signal):
            command()
    except StoppedError as stopped:
        sys.exit(status_of(stopped.number))
    except SystemExit as leaving:
        # The command line takes all of them for Ctrl-C.
        stopped_by = [each.number for each in chain(leaving) if isinstance(each, StoppedError)]
        if stopped_by and leaving.code == status_of(signal.SIGINT):
            sys.exit(status_of(stopped_by[0]))
        raise
