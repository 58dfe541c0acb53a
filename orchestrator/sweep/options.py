"""How a plan is run: where, in which order, how often a run is tried. Changes no result."""

from dataclasses import dataclass
from typing import Literal

from orchestrator.cluster.hardware import Devices

Order = Literal["seeds-first", "longest-first"]


@dataclass(frozen=True)
class Options:
    """How to run a plan; changes no result."""

    address: str = "local"
    """Start Ray on this machine, or join this cluster."""
    workers: int | None = None
    """CPU slots on this machine; all cores by default."""
    devices: Devices | None = None
    """What runs are put on; those of this machine by default."""
    retries: int = 2
    """Further attempts after an error or a lost worker. Not counted: a preemption, and the loss of a
    worker that had got further than the one lost before it."""
    most_hours: float | None = None
    """GPU-hours to spend, or hours of CPU slots where there are no GPUs; no limit by default."""
    order: Order = "seeds-first"
    """Every cell its first seed before any gets its second, or the longest path first whatever seed."""
    keep_weights: bool = False
    """Store the weights of fine-tunings too."""
    checkpoint_seconds: float | None = None
    """Between two checkpoints of a run; chosen by each from what one costs by default."""
    report_seconds: float = 2.0
