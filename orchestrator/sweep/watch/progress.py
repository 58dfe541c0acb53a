"""How far a sweep is: the state of each run, fed by events, and what follows from it.

Nothing is drawn or printed here. `live_table` draws a `SweepView` on a terminal, `display` decides
between that and plain lines.

Units: seconds; times are Unix times, handed in, so that a view can be looked at as of any moment.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.plan.cost.forecast import SECONDS_PER_HOUR, resources
from orchestrator.plan.plan import Cell, Plan, PlannedRun
from orchestrator.sweep.events import Event

State = Literal["waiting", "running", "retrying", "finished", "failed", "blocked"]

STATE_AFTER: Mapping[str, State] = {
    "reused": "finished",
    "started": "running",
    "progress": "running",
    "finished": "finished",
    "retrying": "retrying",
    "failed": "failed",
    "blocked": "blocked",
}
SETTLED: frozenset[State] = frozenset({"finished", "failed", "blocked"})


@dataclass
class RunView:
    """What is known of one run."""

    run: PlannedRun
    state: State = "waiting"
    reused: bool = False
    attempt: int = 0
    fraction: float = 0.0
    started: float = 0.0
    """When the current attempt began."""
    occupied: float = 0.0
    """Seconds that attempts which ended held a worker."""
    score: float | None = None
    """The number of the table, in percent; None before the end and for pretrainings."""
    message: str = ""

    def seconds(self, now: float) -> float:
        """Return how long the run has held a worker in this sweep."""
        return self.occupied + (max(now - self.started, 0.0) if self.state == "running" else 0.0)


class SweepView:
    """The state of a sweep.

    Args:
        plan: what the sweep runs.
        expected: forecast seconds of the runs that are still to do, by key.
        gpu_gb: memory of one GPU in GB, if runs use GPUs: the cost is counted in theirs then.
        started: when the sweep began; now by default.
    """

    def __init__(
        self,
        plan: Plan,
        expected: Mapping[str, float],
        *,
        gpu_gb: float | None = None,
        started: float | None = None,
    ) -> None:
        self.plan = plan
        self.started = time.time() if started is None else started
        self.cost_unit = "CPU-hours" if gpu_gb is None else "GPU-hours"
        self.runs = {run.key: RunView(run) for run in plan.runs}
        self._expected, self._gpu_gb = expected, gpu_gb
        self._most_at_once = 1
        self._begun = False

    def take(self, event: Event) -> None:
        """Take in what happened."""
        view = self.runs[event.run.key]
        if view.state == "running" and event.kind not in ("started", "progress"):
            view.occupied += max(event.time - view.started, 0.0)
        if event.kind == "started":
            view.started, view.fraction = event.time, 0.0
            self._begun = True
        view.state = STATE_AFTER[event.kind]
        view.reused = event.kind == "reused"
        view.fraction = max(view.fraction, event.fraction)
        view.attempt = event.attempt or view.attempt
        view.message = event.message
        if view.state == "finished":
            view.score = event.metrics.get(f"test_{view.run.spec.dataset.metric}")
        self._most_at_once = max(self._most_at_once, len(self.running))

    @property
    def starting(self) -> bool:
        """Whether nothing has been heard of any run yet: Ray and its workers are starting."""
        return all(view.state == "waiting" for view in self.runs.values())

    @property
    def counts(self) -> Counter[State]:
        """How many runs are in each state; reused ones count as finished."""
        return Counter(view.state for view in self.runs.values())

    @property
    def reused(self) -> int:
        """How many runs had been finished before."""
        return sum(view.reused for view in self.runs.values())

    @property
    def running(self) -> list[RunView]:
        """What runs now, the longest-running first."""
        found = [view for view in self.runs.values() if view.state == "running"]
        return sorted(found, key=lambda view: view.started)

    @property
    def pretrainings(self) -> list[RunView]:
        """The pretrainings, in the order of the plan."""
        return [view for view in self.runs.values() if view.run.pretraining]

    def cell(self, method: str, target: str) -> list[RunView]:
        """Return the runs of one cell of the table, by seed."""
        cells = (Cell(method, target, seed) for seed in self.plan.seeds)
        return [self.runs[self.plan.table[cell]] for cell in cells if cell in self.plan.table]

    def elapsed(self, now: float) -> float:
        """Return how long the sweep has been going."""
        return max(now - self.started, 0.0)

    def cost_hours(self, now: float) -> float:
        """Return what this sweep has used, in hours of one device: `cost_unit`."""
        return sum(
            view.seconds(now) * self._share(view.run) for view in self.runs.values()
        ) / float(SECONDS_PER_HOUR)

    def seconds_left(self) -> float | None:
        """Return how long the rest will take; None before anything has started.

        The forecast, corrected by what runs of the same kind took in this sweep, over as many
        workers as have been seen at once; never less than the longest path.
        """
        if not self._begun:
            return None
        corrections, overall = self._corrections()
        left = {
            key: self._left(view, corrections.get(_kind(view.run), overall))
            for key, view in self.runs.items()
            if view.state not in SETTLED
        }
        paths = (
            each + left.get(self.runs[key].run.needs or "", 0.0) for key, each in left.items()
        )
        return max(sum(left.values()) / self._most_at_once, max(paths, default=0.0))

    def _left(self, view: RunView, correction: float) -> float:
        return self._expected.get(view.run.key, 0.0) * correction * (1.0 - view.fraction)

    def _corrections(self) -> tuple[dict[tuple[str, str], float], float]:
        """Return seconds taken per second expected, by kind of run and over all."""
        took: dict[tuple[str, str], float] = defaultdict(float)
        foreseen: dict[tuple[str, str], float] = defaultdict(float)
        for key, view in self.runs.items():
            if view.state == "finished" and not view.reused and self._expected.get(key):
                took[_kind(view.run)] += view.occupied
                foreseen[_kind(view.run)] += self._expected[key]
        overall = sum(took.values()) / sum(foreseen.values()) if took else 1.0
        return {kind: took[kind] / foreseen[kind] for kind in took}, overall

    def _share(self, run: PlannedRun) -> float:
        """Return how many devices a run holds."""
        held = resources(run.spec, gpu_gb=self._gpu_gb)
        return float(held.cpus) if self._gpu_gb is None else held.gpus


def _kind(run: PlannedRun) -> tuple[str, str]:
    return run.spec.task, run.spec.network.family
