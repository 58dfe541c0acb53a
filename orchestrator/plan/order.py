"""Which run starts next: one whose pretraining is stored, by rank, then the longest path first.

What is ready lies in a heap and what waits lies below the run that it needs, so that a step takes
as long with thousands of runs as with a few.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from orchestrator.plan.plan import PlannedRun

Rank = Callable[[PlannedRun], int]


def all_alike(_: PlannedRun) -> int:
    """Rank no run before another."""
    return 0


def seeds_first(runs: Sequence[PlannedRun]) -> Rank:
    """Rank fine-tunings by the place of their seed; a pretraining comes before what needs it."""
    seeds = dict.fromkeys(run.seed for run in runs if not run.pretraining)
    place = {seed: i for i, seed in enumerate(seeds)}
    return lambda run: 0 if run.pretraining else place.get(run.seed, 0)


class Frontier:
    """The runs of a plan that are waiting, ready or running.

    Args:
        runs: what is to be run, finished runs left out.
        finished: keys of finished runs.
        remaining: seconds of the longest path that begins with a run, by key.
        rank: runs of a lower one go first; all are alike by default. No worker waits for a rank.
    """

    def __init__(
        self,
        runs: Iterable[PlannedRun],
        finished: Iterable[str],
        remaining: Mapping[str, float],
        *,
        rank: Rank = all_alike,
    ) -> None:
        self._finished = set(finished)
        self._remaining, self._rank = dict(remaining), rank
        self._running: dict[str, PlannedRun] = {}
        self._arrange(runs)

    def add(self, runs: Iterable[PlannedRun], remaining: Mapping[str, float]) -> None:
        """Let more runs wait, in order of their longest path among those that wait already."""
        self._remaining |= remaining
        self._arrange([*self._in_order(self._waiting), *runs])

    @property
    def exhausted(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._waiting and not self._running

    def wanted(self) -> Iterator[PlannedRun]:
        """Yield what runs, then what is ready to."""
        yield from self._running.values()
        for _, key in self._ready:
            if key in self._waiting:
                yield self._waiting[key]

    def take(self) -> PlannedRun | None:
        """Return the next run, now running; None if none is ready."""
        while self._ready:
            _, key = heapq.heappop(self._ready)
            if key in self._waiting:  # Else it was dropped since it became ready.
                run = self._running[key] = self._waiting.pop(key)
                return run
        return None

    def note_finished(self, key: str) -> None:
        """Note that a run is finished that was never taken here."""
        self._finished.add(key)
        self._release(key)

    def put_back(self, key: str) -> None:
        """Let a running run wait again, before all others."""
        self._waiting[key] = self._running.pop(key)
        self._foremost -= 1
        self._place[key] = self._foremost
        heapq.heappush(self._ready, (self._foremost, key))

    def lose(self, run: PlannedRun) -> None:
        """Let a finished run wait again whose artifacts are gone; what needs it waits for it."""
        self._finished.discard(run.key)
        self._remaining.setdefault(run.key, math.inf)  # Of what was finished at the start, say.
        self._arrange([run, *self._in_order(self._waiting)])

    def finish(self, key: str) -> None:
        """Take a running run off; those that need it are ready."""
        del self._running[key]
        self._finished.add(key)
        self._release(key)

    def give_up(self, key: str) -> list[PlannedRun]:
        """Take a running run off that failed for good, and return what can never start."""
        del self._running[key]
        return self._drop(self._after.get(key, ()))

    def drop_methods(self, methods: Collection[str]) -> list[PlannedRun]:
        """Take off what waits and is of use to none but these methods, and return it."""
        return self._drop(
            key
            for key, run in self._waiting.items()
            if run.methods and all(method in methods for method in run.methods)
        )

    def _drop(self, keys: Iterable[str]) -> list[PlannedRun]:
        """Take off what waits of these runs and of all that need them."""
        doomed: set[str] = set()
        left = list(keys)
        while left:
            key = left.pop()
            if key in self._waiting and key not in doomed:
                doomed.add(key)
                left += self._after.get(key, ())
        dropped = self._in_order(doomed)
        for run in dropped:
            del self._waiting[run.key]
        return dropped

    def _release(self, key: str) -> None:
        """Make ready what waits for a run that is finished."""
        for waiting in self._after.pop(key, ()):
            if waiting in self._waiting:
                heapq.heappush(self._ready, (self._place[waiting], waiting))

    def _arrange(self, runs: Iterable[PlannedRun]) -> None:
        """Let these runs wait, and no others."""
        # Runs of equal length keep the order of the plan.
        order = sorted(runs, key=lambda run: (self._rank(run), -self._remaining[run.key]))
        self._waiting = {run.key: run for run in order}
        self._place = {key: i for i, key in enumerate(self._waiting)}
        self._foremost = 0
        self._ready: list[tuple[int, str]] = []  # Sorted, and so a heap.
        self._after: defaultdict[str, list[str]] = defaultdict(list)
        """Runs that wait for a run, by its key."""
        for key, run in self._waiting.items():
            if run.needs is None or run.needs in self._finished:
                self._ready.append((self._place[key], key))
            else:
                self._after[run.needs].append(key)

    def _in_order(self, keys: Iterable[str]) -> list[PlannedRun]:
        return [self._waiting[key] for key in sorted(keys, key=self._place.__getitem__)]
