"""Processes by their session, and an end to all of them when this process has ended, however that is.

Only the standard library: what sees to that end is a small process that has imported nothing else.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

GIVE_UP_S, PAUSE_S = 10.0, 0.02
WATCH = "import sys; sys.path.insert(0, sys.argv[1]); from orchestrator.process import sessions; sessions.watch()"


def alive(sessions: Collection[int]) -> Iterator[int]:
    """Yield the processes of sessions, which are named by the processes that lead them; Linux only."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            process = int(entry.name)
            # What has ended and nobody has asked about is no process any more.
            state = (
                (entry / "stat")
                .read_text(encoding="utf-8", errors="replace")
                .rpartition(")")[2]
                .split()[0]
            )
            if os.getsid(process) in sessions and state not in "ZX":
                yield process


def end_all(sessions: Collection[int], grace_s: float = 0.0) -> None:
    """See to it that no process of sessions is left: what does not go by itself is killed.

    Args:
        grace_s: how long they have to go.
    """
    began = time.monotonic()
    while left := list(alive(sessions)):
        waited = time.monotonic() - began
        if waited > GIVE_UP_S:
            return  # Something in the kernel holds them, and will let them go to their end.
        if waited >= grace_s:
            for process in left:
                with contextlib.suppress(OSError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(PAUSE_S)


class Watcher:
    """A process that ends sessions when this one has ended, killed or not."""

    def __init__(self, root: str, deaf_to: Iterable[signal.Signals]) -> None:
        """Start it.

        Args:
            root: what our packages are in.
            deaf_to: signals that are meant for this process and not for it.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, deaf_to)  # It inherits that.
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", WATCH, root],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def add(self, session: int) -> None:
        """Have it end a session, too."""
        with contextlib.suppress(OSError):  # It was killed: then there is none.
            assert self._process.stdin is not None
            self._process.stdin.write(f"{session}\n".encode())
            self._process.stdin.flush()

    def end(self) -> None:
        """Let it end what is left, and itself."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._process.wait()


def watch() -> None:
    """Be that process: told of sessions on standard input, until nobody is left who could."""
    sessions = {int(line) for line in sys.stdin if line.strip().isdigit()}
    if sessions:
        end_all(sessions)
