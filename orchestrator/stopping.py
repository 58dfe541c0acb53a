"""Stopping a sweep on purpose: once lets it drain, twice ends it at once; both can be resumed."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.mirror import Mirror

Say = Callable[[str], None]


class StopFlag:
    """Whether somebody asked the sweep to stop; set by signal handlers, read by the sweep.

    A file says so to the workers, which then write a checkpoint with their next result: once Tune
    stops a trial, its worker has but a few seconds.
    """

    def __init__(self, file: Path, mirror: "Mirror | None" = None) -> None:
        """Start unset; a file that a killed sweep left behind is removed.

        Args:
            mirror: of the object store in which workers look for the file.
        """
        self.draining = False
        self.file, self._mirror = file, mirror
        file.unlink(missing_ok=True)
        if mirror is not None:
            mirror.drop(file)

    def drain(self) -> None:
        """Start nothing new; let what runs write a checkpoint and stop."""
        self.draining = True
        self.file.touch(mode=0o600)
        if self._mirror is not None:
            with contextlib.suppress(
                OSError
            ):  # What runs is stopped all the same, if less gently.
                self._mirror.carry(self.file)


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
