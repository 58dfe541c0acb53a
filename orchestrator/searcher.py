"""Which run starts next: one whose pretraining is stored, and of those the longest path first.

`Frontier` is the order itself, free of Ray. `DagSearcher` is the search algorithm through which
Ray Tune asks for it: Tune knows of no dependencies between trials, but a search algorithm may
answer that there is nothing to start just now.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ray.tune.search import Searcher

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
        self._waiting = dict.fromkeys(sorted(runs, key=lambda run: -remaining[run.key]))
        self._running: dict[str, PlannedRun] = {}

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


class DagSearcher(Searcher):  # type: ignore[misc]
    """Asks `suggest` for the configuration of the next trial.

    Args:
        suggest: trial id -> configuration, None if nothing is ready, or `Searcher.FINISHED`.
    """

    def __init__(self, suggest: Callable[[str], dict[str, Any] | str | None]) -> None:
        super().__init__()
        self._suggest = suggest

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the configuration of the next trial."""
        return self._suggest(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn nothing: the sweep's callback sees results and causes as a whole."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the store is the truth, and the plan is made anew from it."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""
