"""What came of a sweep, in numbers and by key."""

import signal
from dataclasses import dataclass, field

from orchestrator.store.failures import Failure


@dataclass
class SweepResult:
    """What came of a sweep."""

    planned: int
    reused: int = 0
    finished: int = 0
    failed: dict[str, Failure] = field(default_factory=dict)
    """By key."""
    blocked: dict[str, str] = field(default_factory=dict)
    """Runs that could not start: their key, and the key of the run that failed."""
    updates_redone: int = 0
    """Updates that were lost with a worker or a driver and done again, as far as they had been told of."""
    avoided_nodes: list[str] = field(default_factory=list)
    """Nodes on which one run after another failed."""
    seconds: float = 0.0
    interrupted: bool = False
    stopped_by: int = signal.SIGINT
    """The signal that interrupted it."""
    within_budget: bool = True
    """False if runs were left because the budget might not have sufficed for them."""
    halted: str = ""
    """Why nothing more was started, if workers have other code than the driver."""
