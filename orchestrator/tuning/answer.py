"""What a search found: the best value and how sure that is, the curve, what each target would want."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from orchestrator.tuning.driver import aggregate
from orchestrator.tuning.ledger import REASON, Ledger
from orchestrator.tuning.search import Search

SAME = 1e-6  # Relative difference below which two values of a parameter are one.


@dataclass(frozen=True)
class Tried:
    """One trial, as far as it came."""

    number: int
    values: Mapping[str, float]
    state: str
    """`complete`, `pruned`, `failed` or `running`."""
    rung: int
    """The last one that it has a value for; -1 without any."""
    by_target: Mapping[str, Sequence[float]]
    """Validation metric in percent at that rung, by target and tuning seed."""
    value: float | None
    reason: str = ""

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over tuning seeds of the mean over targets."""
        per_seed = [fmean(values) for values in zip(*self.by_target.values(), strict=True)]
        return stdev(per_seed) if len(per_seed) > 1 else None


@dataclass(frozen=True)
class Answer:
    """What came of a search so far."""

    search: Search
    tried: tuple[Tried, ...]

    @property
    def complete(self) -> tuple[Tried, ...]:
        """The trials that had their whole budget, best first."""
        done = [each for each in self.tried if each.state == "complete"]
        return tuple(sorted(done, key=lambda each: -(each.value or 0.0)))

    @property
    def best(self) -> Tried | None:
        """The trial with the highest value; None if none is complete."""
        return self.complete[0] if self.complete else None

    @property
    def as_good(self) -> tuple[Tried, ...]:
        """The complete trials that the seeds do not tell from the best: within two standard errors of
        the difference, the spread over tuning seeds taken as that of the best."""
        if self.best is None:
            return ()
        noise = self.noise or 0.0
        return tuple(t for t in self.complete if (self.best.value or 0) - (t.value or 0) <= noise)

    @property
    def noise(self) -> float | None:
        """Difference in percent that two trials may show by their seeds alone; one seed tells none."""
        spreads = [each.spread for each in self.complete if each.spread is not None]
        if not spreads:
            return None
        pooled = math.sqrt(fmean(spread**2 for spread in spreads))
        return 2 * pooled * math.sqrt(2 / len(self.search.seeds))

    @property
    def reference(self) -> Tried | None:
        """The complete trial of the paper's own values, if there is one."""
        return next(filter(self._is_reference, self.complete), None)

    @property
    def stopped_reference(self) -> Tried | None:
        """The trial of the paper's own values, if it was stopped early: its regret is not known."""
        stopped = (each for each in self.tried if each.state == "pruned")
        return next(filter(self._is_reference, stopped), None)

    def _is_reference(self, tried: Tried) -> bool:
        wanted = self.search.space.reference
        return all(math.isclose(tried.values[n], v, rel_tol=SAME) for n, v in wanted.items())

    def best_for(self, target: str) -> Tried | None:
        """Return the complete trial that is best on one target."""
        return max(self.complete, key=lambda each: fmean(each.by_target[target]), default=None)

    def regret(self, tried: Tried, target: str) -> float:
        """Return by how much another trial is better on a target, in percent."""
        best = self.best_for(target)
        assert best is not None
        return fmean(best.by_target[target]) - fmean(tried.by_target[target])

    @property
    def updates(self) -> tuple[int, int]:
        """Pretraining updates spent, pretrainings shared by trials counted once, and those that all
        trials with their whole budget would have taken."""
        budgets = self.search.budgets
        if not budgets:
            return 0, 0
        spent: dict[tuple[float, ...], int] = {}
        for each in self.tried:
            shared = tuple(each.values[name] for name in self.search.space.of_pretraining)
            reached = budgets[each.rung] if each.rung >= 0 else 0
            spent[shared] = max(spent.get(shared, 0), reached)
        return sum(spent.values()), len(spent) * budgets[-1]

    def record(self) -> dict[str, Any]:
        """Return the answer for machines."""
        states = [each.state for each in self.tried]
        spent, whole = self.updates
        best = self.best
        return {
            "search": self.search.name,
            "trials": len(self.tried),
            **{s: states.count(s) for s in ("complete", "pruned", "failed", "running")},
            "best": None if best is None else dict(best.values),
            "value": None if best is None else best.value,
            "spread": None if best is None else best.spread,
            "as_good": [dict(each.values) for each in self.as_good],
            "reference": None if self.reference is None else self.reference.value,
            "updates": spent,
            "updates_without_stopping": whole,
            "set": [] if best is None else self.search.settings(dict(best.values)),
        }


def answer_of(search: Search, ledger: Ledger) -> Answer:
    """Return what the trials of a search have shown so far."""
    return Answer(search, tuple(_tried(search, trial) for trial in ledger.trials))


def _tried(search: Search, trial: FrozenTrial) -> Tried:
    reached = [r for r in range(search.rungs) if f"rung_{r}" in trial.user_attrs]
    by_target = trial.user_attrs[f"rung_{reached[-1]}"] if reached else {}
    states = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    return Tried(
        number=trial.number,
        values=trial.params,
        state=states.get(trial.state, "running"),
        rung=reached[-1] if reached else -1,
        by_target=by_target,
        value=aggregate(by_target, search.objective) if by_target else None,
        reason=str(trial.user_attrs.get(REASON, "")),
    )
