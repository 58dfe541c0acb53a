"""A sweep without Ray: the sweep's own order, driven by a virtual clock over the forecast.

The order is the `Frontier` that `Sweep` asks, the share of a GPU is the one that Ray is asked for.
Of Tune, what decides about time is modelled: it asks for the next run as long as it holds none that
waits for room, so that a run that fits on no GPU holds back those behind it, and it takes in one end
after the other. A run goes to the first GPU with room for it. The order knows estimates only, while
the clock may follow other durations.

Left out: the start of workers, CPU cores, and that runs which share a GPU slow each other.

Units: seconds of the virtual clock, which starts at 0; shares of a GPU in (0, 1].
"""

import heapq
import itertools
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

from orchestrator.plan.cost.forecast import MOST_RUNS_PER_GPU, longest_paths, resources
from orchestrator.plan.order import Frontier, Rank, seeds_first
from orchestrator.plan.plan import PlannedRun
from trainables.keys import derive_seed

GPU_GB = 80.0
CHECKPOINT_SECONDS = 120.0  # As often as a sweep asks for.

# Shares are counted in whole parts: thirds of a GPU that are added and taken off leave no crumbs.
PARTS = math.lcm(*range(1, MOST_RUNS_PER_GPU + 1))


class Policy(Protocol):
    """What decides which run is next."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing waits and nothing runs."""

    def take(self) -> PlannedRun | None:
        """Return the next run, now running; None if none may start yet."""

    def finish(self, key: str) -> None:
        """Take a running run off."""

    def put_back(self, key: str) -> None:
        """Let a running run wait again, before all others."""


class Barrier:
    """First in, first out, and no fine-tuning before the last pretraining has ended.

    What a sweep is compared with: two grids one after the other, as Tune alone would run them.
    """

    def __init__(self, runs: Iterable[PlannedRun]) -> None:
        self._waiting = deque(sorted(runs, key=lambda run: not run.pretraining))
        self._running: dict[str, PlannedRun] = {}
        self._pretraining = 0  # How many of those that run.

    @property
    def exhausted(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._waiting and not self._running

    def take(self) -> PlannedRun | None:
        """Return the next run, now running; None if it has to wait for others to end."""
        if not self._waiting:
            return None
        first = self._waiting[0]
        if first.needs in self._running or (self._pretraining and not first.pretraining):
            return None
        self._running[first.key] = first
        self._pretraining += first.pretraining
        return self._waiting.popleft()

    def finish(self, key: str) -> None:
        """Take a running run off."""
        self._pretraining -= self._running.pop(key).pretraining

    def put_back(self, key: str) -> None:
        """Let a running run wait again, before all others."""
        run = self._running.pop(key)
        self._pretraining -= run.pretraining
        self._waiting.appendleft(run)


@dataclass(frozen=True)
class Loss:
    """A GPU that is lost with what runs on it; while it is away it cannot be lost again."""

    gpu: int
    at: float
    back: float = math.inf
    """When it is there again; never by default."""


@dataclass(frozen=True)
class Interval:
    """One attempt of a run on a GPU."""

    run: PlannedRun
    gpu: int
    share: float
    start: float
    end: float
    finished: bool
    """False if the GPU was lost."""


@dataclass(frozen=True)
class Simulation:
    """What became of a simulated sweep."""

    gpus: int
    gpu_gb: float
    intervals: tuple[Interval, ...]
    """In order of their ends."""
    work: float
    """GPU-seconds that the runs take together, what was lost and done again left out."""
    longest_path: float
    """Seconds that no number of GPUs can undercut."""
    critical: tuple[PlannedRun, ...]
    """The runs of the longest path."""

    @property
    def makespan(self) -> float:
        """Seconds until the last run has ended."""
        return max((each.end for each in self.intervals), default=0.0)

    @property
    def bound(self) -> float:
        """Seconds that no order can undercut on as many GPUs."""
        return max(self.longest_path, self.work / self.gpus)

    @property
    def ratio(self) -> float:
        """The makespan in units of the bound; 1 if there is nothing to run."""
        return self.makespan / self.bound if self.bound else 1.0

    @property
    def utilisation(self) -> float:
        """Part of the GPUs' time that is in use, in [0, 1]; 0 if there is nothing to run."""
        busy = sum((each.end - each.start) * each.share for each in self.intervals)
        return busy / (self.makespan * self.gpus) if self.makespan else 0.0

    @cached_property
    def ended_last(self) -> tuple[PlannedRun, ...]:
        """The run that ended last, after those that it had to wait for."""
        if not self.intervals:
            return ()
        by_key = {each.run.key: each.run for each in self.intervals}
        chain = [max(self.intervals, key=lambda each: each.end).run]
        while chain[0].needs in by_key:
            chain.insert(0, by_key[chain[0].needs])
        return tuple(chain)


def simulate(
    runs: Sequence[PlannedRun],
    seconds: Mapping[str, float],
    *,
    gpus: int,
    gpu_gb: float = GPU_GB,
    actual: Mapping[str, float] | None = None,
    rank: Rank | None = None,
    policy: Policy | None = None,
    losses: Iterable[Loss] = (),
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Simulation:
    """Return what a sweep over these runs would come to.

    Args:
        runs: what is to be run, each after the one it needs; others that they need are finished.
        seconds: what the order takes each run to last, by key.
        gpu_gb: memory of each GPU, in GB (10^9 bytes).
        actual: how long each run lasts; as estimated by default.
        rank: of the order; as the sweep's own by default.
        policy: another order than the sweep's.
        losses: of GPUs. What ran there is put back, and goes on from its last checkpoint.
        checkpoint_seconds: between two checkpoints of a run.

    Raises:
        ValueError: if `gpus` is not positive, if a GPU is lost that is none of them, or if losses
            leave none while there is work.
    """
    if gpus < 1:
        raise ValueError(f"gpus must be > 0, got {gpus}")
    losses = tuple(losses)
    if any(loss.gpu not in range(gpus) for loss in losses):
        raise ValueError(f"lost GPUs must be in 0..{gpus - 1}, got {[x.gpu for x in losses]}")
    durations = seconds if actual is None else actual
    parts = {r.key: round(resources(r.spec, gpu_gb=gpu_gb).gpus * PARTS) for r in runs}
    if policy is None:
        policy = sweep_order(runs, seconds, rank=rank)
    clock = _Clock(policy, durations, parts, gpus, checkpoint_seconds)
    intervals = clock.run_out(losses)
    path = longest_paths(runs, durations)
    return Simulation(
        gpus=gpus,
        gpu_gb=gpu_gb,
        intervals=tuple(intervals),
        work=sum(durations[key] * share for key, share in parts.items()) / PARTS,
        longest_path=max(path.values(), default=0.0),
        critical=_critical(runs, path),
    )


def sweep_order(
    runs: Sequence[PlannedRun], seconds: Mapping[str, float], *, rank: Rank | None = None
) -> Frontier:
    """Return the order of a sweep, in which every run is still to do."""
    planned = {run.key for run in runs}
    finished = {run.needs for run in runs if run.needs is not None} - planned
    remaining = longest_paths(runs, seconds)
    return Frontier(runs, finished, remaining, rank=rank or seeds_first(runs))


def misjudged(seconds: Mapping[str, float], *, factor: float, seed: int) -> dict[str, float]:
    """Return durations of which `seconds` are estimates that are wrong by up to a factor.

    Log-uniform from 1 / factor to factor times the estimate, drawn from the name of each run: the
    same in every order and on any number of GPUs.
    """
    return {
        key: estimate * factor ** (2 * derive_seed(seed, "duration", key) / 2**32 - 1)
        for key, estimate in seconds.items()
    }


@dataclass
class _Running:
    run: PlannedRun
    gpu: int
    start: float


class _Clock:
    """The virtual clock: what runs where, and what happens next."""

    def __init__(
        self,
        policy: Policy,
        durations: Mapping[str, float],
        parts: Mapping[str, int],
        gpus: int,
        checkpoint_seconds: float,
    ) -> None:
        self._policy, self._durations, self._parts = policy, durations, parts
        self._checkpoint_seconds = checkpoint_seconds
        self._gpus = _Gpus(gpus)
        self._now = 0.0
        self._held: PlannedRun | None = None
        """Taken, and waiting for room."""
        self._running: dict[str, _Running] = {}
        self._kept: dict[str, float] = defaultdict(float)
        """Seconds of a run that its last checkpoint saves, by key."""
        self._intervals: list[Interval] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()  # Of two events at once, the older goes first.

    def run_out(self, losses: Iterable[Loss]) -> list[Interval]:
        """Let time pass until nothing is left to do, and return what ran."""
        for loss in losses:
            self._at(loss.at, partial(self._lose, loss))
        self._fill()
        while not self._policy.exhausted:
            if not self._events:
                raise ValueError("losses leave no GPU to finish the runs on")
            self._now, _, happen = heapq.heappop(self._events)
            happen()
            self._fill()
        return self._intervals

    def _at(self, time: float, happen: Callable[[], None]) -> None:
        if time < math.inf:
            heapq.heappush(self._events, (time, next(self._number), happen))

    def _fill(self) -> None:
        """Start runs until the next one finds no room, or none may start."""
        while (run := self._held or self._policy.take()) is not None:
            gpu = self._gpus.first_with(self._parts[run.key])
            self._held = run if gpu is None else None
            if gpu is None:
                return
            self._start(run, gpu)

    def _start(self, run: PlannedRun, gpu: int) -> None:
        self._gpus.use(gpu, self._parts[run.key])
        running = self._running[run.key] = _Running(run, gpu, self._now)
        left = self._durations[run.key] - self._kept[run.key]
        self._at(self._now + left, partial(self._end, running))

    def _end(self, running: _Running) -> None:
        key = running.run.key
        if self._running.get(key) is not running:
            return  # It was lost before it came to its end.
        self._gpus.use(running.gpu, -self._parts[key])
        self._note(running, finished=True)
        self._policy.finish(key)

    def _lose(self, loss: Loss) -> None:
        if not self._gpus.take_away(loss.gpu):
            return
        for running in [each for each in self._running.values() if each.gpu == loss.gpu]:
            key = running.run.key
            done = self._kept[key] + self._now - running.start
            self._kept[key] = done // self._checkpoint_seconds * self._checkpoint_seconds
            self._note(running, finished=False)
            self._policy.put_back(key)
        self._at(loss.back, partial(self._gpus.bring_back, loss.gpu))

    def _note(self, running: _Running, *, finished: bool) -> None:
        del self._running[running.run.key]
        share = self._parts[running.run.key] / PARTS
        self._intervals.append(
            Interval(running.run, running.gpu, share, running.start, self._now, finished)
        )


class _Gpus:
    """How much of each GPU is free, in parts."""

    def __init__(self, count: int) -> None:
        self._free = [PARTS] * count
        self._away: set[int] = set()
        # By how much is free, a heap of GPUs; those whose use has changed since are passed over.
        self._by_free: dict[int, list[int]] = {PARTS: list(range(count))}

    def first_with(self, parts: int) -> int | None:
        """Return the first GPU that has room for a run; None if there is none."""
        firsts = []
        for free, gpus in self._by_free.items():
            while gpus and self._free[gpus[0]] != free:
                heapq.heappop(gpus)
            if gpus and free >= parts:
                firsts.append(gpus[0])
        return min(firsts, default=None)

    def use(self, gpu: int, parts: int) -> None:
        """Take parts of a GPU, or give them back if there are less than none."""
        self._set(gpu, self._free[gpu] - parts)

    def take_away(self, gpu: int) -> bool:
        """Leave nothing of a GPU free; False if it is away already."""
        if gpu in self._away:
            return False
        self._away.add(gpu)
        self._set(gpu, 0)
        return True

    def bring_back(self, gpu: int) -> None:
        """Leave all of a GPU free."""
        self._away.discard(gpu)
        self._set(gpu, PARTS)

    def _set(self, gpu: int, free: int) -> None:
        self._free[gpu] = free
        heapq.heappush(self._by_free.setdefault(free, []), gpu)


def _critical(runs: Sequence[PlannedRun], path: Mapping[str, float]) -> tuple[PlannedRun, ...]:
    """Return the runs of the longest path, the first of them first."""
    chain: list[PlannedRun] = []
    planned = {run.key for run in runs}
    candidates = [run for run in runs if run.needs not in planned]
    while candidates:
        chain.append(max(candidates, key=lambda run: path[run.key]))
        candidates = [run for run in runs if run.needs == chain[-1].key]
    return tuple(chain)
