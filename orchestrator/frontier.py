"""Which run starts next: one whose pretraining is stored, by rank, then the longest path first."""

from collections.abc import Callable, Collection, Iterable, Mapping

from orchestrator.plan import PlannedRun


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
        rank: Callable[[PlannedRun], int] = lambda _: 0,
    ) -> None:
        self._finished = set(finished)
        self._remaining, self._rank = dict(remaining), rank
        self._waiting = self._in_order(runs)
        self._running: dict[str, PlannedRun] = {}

    def add(self, runs: Iterable[PlannedRun], remaining: Mapping[str, float]) -> None:
        """Let more runs wait, in order of their longest path among those that wait already."""
        self._remaining |= remaining
        self._waiting = self._in_order([*self._waiting, *runs])

    @property
    def exhausted(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._waiting and not self._running

    def take(self) -> PlannedRun | None:
        """Return the next run, now running; None if none is ready."""
        for run in self._waiting:
            if run.needs is None or run.needs in self._finished:
                del self._waiting[run]
                self._running[run.key] = run
                return run
        return None

    def note_finished(self, key: str) -> None:
        """Note that a run is finished that was never taken here."""
        self._finished.add(key)

    def put_back(self, key: str) -> None:
        """Let a running run wait again, before all others."""
        run = self._running.pop(key)
        self._waiting = {run: None, **self._waiting}

    def finish(self, key: str) -> None:
        """Take a running run off; those that need it are ready."""
        del self._running[key]
        self._finished.add(key)

    def give_up(self, key: str) -> list[PlannedRun]:
        """Take a running run off that failed for good, and return what can never start."""
        del self._running[key]
        return self._drop({key}, ())

    def drop_methods(self, methods: Collection[str]) -> list[PlannedRun]:
        """Take off what waits and is of use to none but these methods, and return it."""
        return self._drop(set(), methods)

    def _drop(self, lost: set[str], methods: Collection[str]) -> list[PlannedRun]:
        dropped = []
        for run in list(self._waiting):
            useless = bool(run.methods) and all(method in methods for method in run.methods)
            if useless or run.needs in lost:
                del self._waiting[run]
                lost.add(run.key)
                dropped.append(run)
        return dropped

    def _in_order(self, runs: Iterable[PlannedRun]) -> dict[PlannedRun, None]:
        # Runs of equal length keep the order of the plan.
        order = sorted(runs, key=lambda run: (self._rank(run), -self._remaining[run.key]))
        return dict.fromkeys(order)
