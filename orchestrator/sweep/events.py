"""What a sweep tells while it runs: one value per change, for whoever shows or records it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.plan.plan import PlannedRun

Kind = Literal["reused", "started", "progress", "finished", "retrying", "failed", "blocked"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """A change of one run's state, or a sign of life."""

    kind: Kind
    run: PlannedRun
    time: float
    """Unix time in seconds."""
    attempt: int = 0
    fraction: float = 0.0
    """Part of the run that is done, in [0, 1]."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    """Cause of a failure, a retry or a block."""
    seconds: float = 0.0
    """What the run cost, once it is finished."""


OnEvent = Callable[[Event], None]
