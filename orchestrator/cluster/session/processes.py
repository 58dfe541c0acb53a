"""The processes that Ray runs on this machine, kept away from what is meant for their driver.

Whoever ends a job sends his signal to all of it: `timeout` and a terminal to the process group, systemd
and Slurm to every process. A Ray that ends with its driver's first word cannot let runs write their
checkpoints. So Ray's processes are in sessions of their own, and let the signals wait that ask a driver
to stop, for good: they are killed when the driver is through with them, and when it dies.
"""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from orchestrator import ROOT
from orchestrator.cluster.session.private import CONSOLE_POPEN, SET_SIGTERM_HANDLER
from orchestrator.process.sessions import Watcher, end_all
from orchestrator.process.stopping import ASKING

GRACE_S = 1.0  # For workers to notice that their Ray has gone.


class RayProcesses:
    """The processes of a Ray that was started here."""

    def __init__(self) -> None:
        self._sessions: list[int] = []
        self._watcher: Watcher | None = None

    def begun(self, process: int) -> None:
        """Note a process that leads a session of its own."""
        if self._watcher is None:
            self._watcher = Watcher(ROOT, ASKING)
        self._sessions.append(process)
        self._watcher.add(process)

    def end(self) -> None:
        """See to it that none is left."""
        end_all(self._sessions, GRACE_S)
        if self._watcher is not None:
            self._watcher.end()


@contextlib.contextmanager
def kept_apart() -> Iterator[RayProcesses]:
    """Keep the processes apart that Ray starts inside; this one's own signals stay as they are."""
    processes = RayProcesses()

    class Apart(subprocess.Popen[bytes]):
        """One of Ray's processes: in a session of its own, deaf to what asks its driver to stop."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            theirs = named.get("preexec_fn")

            def before() -> None:
                signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
                if theirs is not None:
                    theirs()  # Ray's own: the process dies with this one.

            own: Any = {"preexec_fn": before, "start_new_session": True}
            super().__init__(*arguments, **(named | own))
            processes.begun(self.pid)

        def terminate(self) -> None:
            """End the process, which would not listen to less."""
            self.kill()

    # Ray is told that it has set a handler.
    none_set = SET_SIGTERM_HANDLER.replaced(lambda handler: None)  # noqa: ARG005
    try:
        with CONSOLE_POPEN.replaced(Apart), none_set:
            yield processes
    finally:
        _take_signals_back()


def _take_signals_back() -> None:
    """Have our handlers called at once: Ray's own writes a page of addresses before it calls them.

    Only a main thread has handlers to set. One that was not set from Python stays as Ray left it.
    """
    if threading.current_thread() is threading.main_thread():
        for each in ASKING:
            handler = signal.getsignal(each)
            if handler is not None:
                signal.signal(each, handler)
