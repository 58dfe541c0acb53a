"""A search in MLflow: a run for the search, one below it for each trial, the trial's runs below that."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from optuna.trial import TrialState

from orchestrator.store.store import Store
from orchestrator.tuning.ledger import REASON, SECONDS, Ledger
from orchestrator.tuning.search import Search

STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "FINISHED",
    TrialState.FAIL: "FAILED",
    TrialState.RUNNING: "RUNNING",
    TrialState.WAITING: "SCHEDULED",
}


class Record:
    """What the store keeps of one search."""

    def __init__(self, search: Search, store: Store) -> None:
        self._search, self._store = search, store
        store.begin_group(
            f"search/{search.name}",
            f"tune {search.space.name}: {search.pair} ({search.scale.name})",
            {
                "hdsweep.search": search.name,
                "hdsweep.sampler": search.sampler,
                "hdsweep.scheduler": search.scheduler,
                "hdsweep.objective": search.objective,
            },
        )

    @property
    def folder(self) -> Path:
        """Artifacts of the search."""
        return self._store.folder_of_group(f"search/{self._search.name}")

    def run_of(self, number: int) -> str:
        """Return the MLflow run of a trial."""
        return self._store.group_run(self._name(number))

    def begin(self, number: int, values: Mapping[str, float]) -> None:
        """Record that a trial is being tried."""
        worded = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        self._store.begin_group(
            self._name(number),
            f"trial {number}: {worded}",
            {"hdsweep.trial": str(number)},
            parent=self._store.group_run(f"search/{self._search.name}"),
            params=values,
        )

    def uses(self, number: int, rung: int, keys: Sequence[str]) -> None:
        """Record of which runs a trial is made at a rung."""
        self._store.note_use(self._name(number), keys, step=rung)

    def report(
        self,
        number: int,
        rung: int,
        value: float,
        by_target: Mapping[str, tuple[float, ...]],
        search: Search,
    ) -> None:
        """Record the value of a rung; the step is the budget in updates."""
        step = search.budgets[rung] if search.budgets else 0
        metrics = {"value": value}
        metrics |= {f"val_{name}": sum(vs) / len(vs) for name, vs in by_target.items()}
        self._store.log_to_group(self._name(number), metrics, step=step)

    def told(self, number: int, ledger: Ledger) -> None:
        """Record what Optuna was told about a trial, and the device-seconds that it took."""
        trial = next(each for each in ledger.trials if each.number == number)
        tags = {"hdsweep.state": trial.state.name}
        if REASON in trial.user_attrs:
            tags["hdsweep.message"] = str(trial.user_attrs[REASON])
        if SECONDS in trial.user_attrs:
            seconds = float(trial.user_attrs[SECONDS])
            self._store.log_to_group(self._name(number), {"seconds": seconds}, step=0)
        self._store.end_group(self._name(number), STATUS[trial.state], tags)

    def take_in(self, ledger: Ledger) -> None:
        """Bring the trials of earlier sessions up to what Optuna knows of them."""
        for trial in ledger.trials:
            name = self._name(trial.number)
            if trial.state.is_finished() and not self._store.group_has_ended(name):
                self.begin(trial.number, trial.params)
                self.told(trial.number, ledger)

    def end(self, *, complete: bool) -> None:
        """Mark the search as finished, or as interrupted."""
        status = "FINISHED" if complete else "KILLED"
        self._store.end_group(f"search/{self._search.name}", status, {})

    def _name(self, number: int) -> str:
        return f"search/{self._search.name}/{number}"
