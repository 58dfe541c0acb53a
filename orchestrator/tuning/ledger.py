"""Optuna's side of a search: its storage, what it is asked and what it is told.

Ask and tell, and nothing else: whatever a trial comes to is told here once. A trial that stopped early is
PRUNED with the values of its rungs, one that broke is FAIL with the reason, and one that a killed driver
left running goes on where its rungs stopped. The sampler is made anew for every question, seeded by
(seed, number of the trial), so that the next point depends on what is stored and not on who asks.
"""

import contextlib
import math
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from orchestrator.errors import InputError
from orchestrator.tuning.search import REDUCTION, Search
from trainables.keys import derive_seed

REASON, DUPLICATE = "reason", "duplicate_of"
STARTUP = 4  # Points drawn at random before a model is fitted.
MOST_REPEATED = (
    20  # Suggestions in a row that repeat an earlier one, after which the space is exhausted.
)


class Ledger:
    """The Optuna study of a search."""

    def __init__(self, search: Search, storage: str | None = None) -> None:
        """Open the study, made if there is none yet.

        Args:
            storage: URL of a database that Optuna knows; a journal file in the home by default.

        Raises:
            InputError: if the storage cannot be opened, or holds a search of this name that was begun
                otherwise.
        """
        self._search = search
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.url = storage or str(journal_of(search))
        try:
            self.study = optuna.create_study(
                storage=_storage(self.url),
                study_name=search.name,
                direction="maximize",
                sampler=_sampler(search, 0),
                pruner=_pruner(search),
                load_if_exists=True,
            )
        except Exception as error:
            raise InputError(
                f"the storage of the search, {self.url}, cannot be opened: {error}",
                hint="another --storage, or an Optuna as new as the one that wrote it",
            ) from error
        _check_same(self.study, search)

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials in order, repeated suggestions left out."""
        every = self.study.get_trials(deepcopy=False)
        return [trial for trial in every if DUPLICATE not in trial.user_attrs]

    def left(self) -> list[optuna.Trial]:
        """Return the trials that are running: those that an earlier driver left, at the start."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [optuna.Trial(self.study, trial._trial_id) for trial in running]

    def ask(self) -> tuple[optuna.Trial, dict[str, float]] | None:
        """Return a new trial with its values; None if the search has all its trials.

        A point that was tried before is not tried again.
        """
        for _ in range(MOST_REPEATED):
            if len(self.trials) >= self._search.trials:
                return None
            number = len(self.study.get_trials(deepcopy=False))
            self.study.sampler = _sampler(self._search, number)
            if self._search.sampler == "grid":
                if not self._enqueue_from_grid():
                    return None
            elif number == 0:
                self._enqueue_reference()
            trial = self.study.ask()
            values = self.values(trial)
            before = self._same(trial)
            if before is None:
                return trial, values
            trial.set_user_attr(DUPLICATE, before)
            self.study.tell(trial, state=TrialState.FAIL)
        return None

    def values(self, trial: optuna.Trial) -> dict[str, float]:
        """Return the values of a trial by parameter, drawing those that are not drawn yet."""
        return self._search.space.suggest(trial, self._search.space)

    def report(self, trial: optuna.Trial, rung: int, value: float) -> bool:
        """Record the value of a rung and return whether the trial is to stop there."""
        step = self._search.step(rung)
        if step not in self.rungs_of(trial):
            trial.report(value, step)
        return rung + 1 < self._search.rungs and trial.should_prune()

    def rungs_of(self, trial: optuna.Trial) -> dict[int, float]:
        """Return the recorded values of a trial by step."""
        frozen = self.study._storage.get_trial(trial._trial_id)
        return dict(frozen.intermediate_values)

    def complete(self, trial: optuna.Trial, value: float) -> None:
        """Tell the value of a trial that had its whole budget; what is no number is a failure."""
        if not math.isfinite(value):
            self.fail(trial, f"its value is {value}")
            return
        self.study.tell(trial, value)

    def prune(self, trial: optuna.Trial) -> None:
        """Tell that a trial was stopped early; the values of its rungs are recorded."""
        self.study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: optuna.Trial, reason: str) -> None:
        """Tell that a trial broke, and why."""
        trial.set_user_attr(REASON, reason)
        self.study.tell(trial, state=TrialState.FAIL)

    def note(self, trial: optuna.Trial, name: str, value: Any) -> None:
        """Keep something about a trial, such as the values of its targets."""
        trial.set_user_attr(name, value)

    def _enqueue_reference(self) -> None:
        """Let the paper's own value be the first to be tried, if it can be drawn."""
        space = self._search.space
        inside = all(low <= space.reference[n] <= high for n, (low, high) in space.bounds.items())
        if inside:
            self.study.enqueue_trial(dict(space.reference), skip_if_exists=True)

    def _enqueue_from_grid(self) -> bool:
        """Let a point of the grid that was not tried be the next; False if there is none."""
        grid = self._search.space.grid or {}
        tried = [trial.params for trial in self.trials]
        for values in product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            if point not in tried:
                self.study.enqueue_trial(point)
                return True
        return False

    def _same(self, trial: optuna.Trial) -> int | None:
        """Return the number of an earlier trial with the same values that did not break."""
        for earlier in self.trials:
            counts = earlier.state is not TrialState.FAIL and earlier.number < trial.number
            if counts and earlier.params == trial.params:
                return earlier.number
        return None


def journal_of(search: Search) -> Path:
    """Return the journal file of a search; `optuna-dashboard` opens it."""
    return search.home / "tuning" / f"{search.name}.journal"


def find_journal(home: Path, name: str) -> Path:
    """Return the journal of a search by its name.

    Raises:
        InputError: if there is none.
    """
    path = home / "tuning" / f"{name}.journal"
    if not path.is_file():
        names = sorted(each.stem for each in (home / "tuning").glob("*.journal"))
        known = f"searches are {', '.join(names)}" if names else "nothing was tuned in this home"
        raise InputError(f"no search `{name}`", hint=known)
    return path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's advice to people who call it directly to itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _storage(url: str) -> Any:
    if "://" in url:
        return url
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    Path(url).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return JournalStorage(JournalFileBackend(url))


def _sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    seed = derive_seed(search.seed, "sampler", number)
    with quiet():
        match search.sampler:
            case "tpe":
                return optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=STARTUP, constant_liar=True
                )
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=STARTUP)
            case _:  # For a grid too: its points are enqueued, in the order of the space.
                return optuna.samplers.RandomSampler(seed=seed)


def _pruner(search: Search) -> optuna.pruners.BasePruner:
    last = search.step(search.rungs - 1)
    match search.scheduler:
        case "asha":
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=1, reduction_factor=REDUCTION
            )
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=1, max_resource=last, reduction_factor=REDUCTION
            )
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
        case _:
            return optuna.pruners.NopPruner()


def _check_same(study: optuna.Study, search: Search) -> None:
    """Note how the search is made, or raise an InputError if it was begun otherwise."""
    now = {
        "space": search.space.fingerprint,
        "sampler": search.sampler,
        "scheduler": search.scheduler,
        "objective": search.objective,
        "seed": search.seed,
        "fingerprint": search.fingerprint,
        "parameters": dict(search.space.settings),
        "source": search.source,
        "targets": list(search.targets),
        "scale": search.scale.name,
        "tuning_seeds": list(search.seeds),
        "budgets": list(search.budgets),
    }
    before = study.user_attrs
    if not before:
        for name, value in now.items():
            study.set_user_attr(name, value)
        return
    for name, value in now.items():
        if before.get(name) != value:
            raise InputError(
                f"the search `{study.study_name}` was begun with {name} {before.get(name)}, not {value}",
                hint="go on with that, or give the new search a --name of its own",
            )
