"""Which run starts next: one whose pretraining is stored, and of those the longest path first."""

from collections.abc import Iterable, Mapping

from orchestrator.plan import PlannedRun


class Frontier:
    """The runs of a plan that are waiting, ready or running.

    Args:
        runs: what is to be run, finished runs left out.
        finished: keys of finished runs.
        remaining: seconds of the longest path that begins with a run, by key.
    """

    def __init__(
        self, runs: Iterable[PlannedRun], finished: Iterable[str], remaining: Mapping[str, float]
    ) -> None:
        self._finished = set(finished)
        # Runs of equal length keep the order of the plan.
        self._remaining = dict(remaining)
        self._waiting = dict.fromkeys(sorted(runs, key=lambda run: -remaining[run.key]))
        self._running: dict[str, PlannedRun] = {}

    def add(self, runs: Iterable[PlannedRun], remaining: Mapping[str, float]) -> None:
        """Let more runs wait, in order of their longest path among those that wait already."""
        self._remaining |= remaining
        every = sorted([*self._waiting, *runs], key=lambda run: -self._remaining[run.key])
        self._waiting = dict.fromkeys(every)

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
        lost, blocked = {key}, []
        for run in list(self._waiting):
            if run.needs in lost:
                del self._waiting[run]
                lost.add(run.key)
                blocked.append(run)
        return blocked
