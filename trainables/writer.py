"""Checkpoints written beside the training: a copy in memory, then a thread that takes its time.

At most one is being written. What goes wrong in the thread is raised where the next one is asked for,
or where it is waited for.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch


class Writer:
    """Calls `write` with states, one after the other, in a thread if `beside`.

    Args:
        write: (update, state); what it is given is nobody else's.
        beside: False calls it at once: where training and writing share one processor, a copy and a
            thread gain nothing.
    """

    def __init__(self, write: Callable[[int, dict[str, Any]], None], *, beside: bool) -> None:
        self._write = write
        self._thread = ThreadPoolExecutor(1, "checkpoint") if beside else None
        self._writing: Future[None] | None = None

    def __call__(self, update: int, state: dict[str, Any]) -> None:
        """Have a state written, after the one before is.

        Raises:
            OSError: if this one, or the one before, cannot be.
        """
        self.wait()
        if self._thread is None:
            self._write(update, state)
        else:
            self._writing = self._thread.submit(self._write, update, snapshot(state))

    def wait(self) -> None:
        """Return once nothing is being written any more.

        Raises:
            OSError: if what was being written cannot be.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def snapshot(state: Any) -> Any:
    """Return a copy of nested dicts and lists whose tensors are copies on the CPU."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return type(state)((name, snapshot(value)) for name, value in state.items())
    if isinstance(state, list | tuple):
        return type(state)(map(snapshot, state))
    return state
