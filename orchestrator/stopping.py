"""Stopping a sweep on purpose: once lets it drain, twice ends it at once; both can be resumed."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

Say = Callable[[str], None]


class StopFlag:
    """Whether somebody asked the sweep to stop; set by signal handlers, read by the sweep.

    A file says so to the workers, which then write a checkpoint with their next result: once Tune
    stops a trial, its worker has but a few seconds.
    """

    def __init__(self, file: Path) -> None:
        """Start unset; a file that a killed sweep left behind is removed."""
        self.draining = False
        self.file = file
        file.unlink(missing_ok=True)

    def drain(self) -> None:
        """Start nothing new; let what runs write a checkpoint and stop."""
        self.draining = True
        self.file.touch(mode=0o600)


@contextlib.contextmanager
def stopped_by_signals(stop: StopFlag, say: Say) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM drain the sweep, and a second one end it at once."""

    def on_signal(number: int, frame: object) -> None:  # noqa: ARG001
        if stop.draining:
            raise KeyboardInterrupt
        stop.drain()
        say("stopping: what runs writes a checkpoint first; Ctrl-C again stops at once")

    before = {each: signal.signal(each, on_signal) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
