"""The processes that Ray runs on this machine, kept away from what is meant for their driver.

Whoever ends a job sends his signal to all of it: `timeout` and a terminal to the process group, systemd
and Slurm to every process. A Ray that ends with its driver's first word cannot let runs write their
checkpoints. So Ray's processes are in sessions of their own, and let the signals wait that ask a driver
to stop, for good: they are killed when the driver is through with them, and when it dies.
"""

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

from orchestrator import ROOT
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
    from ray._private import services, utils

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

    popen, on_sigterm = services.ConsolePopen, utils.set_sigterm_handler
    services.ConsolePopen, utils.set_sigterm_handler = Apart, lambda handler: None  # noqa: ARG005
    try:
        yield processes
    finally:
        for each in ASKING:  # Ray's own handler writes a page of addresses before it calls ours.
            signal.signal(each, signal.getsignal(each))
        services.ConsolePopen, utils.set_sigterm_handler = popen, on_sigterm
