"""Optuna's side of a search: its storage, what it is asked and what it is told.

Ask and tell, and nothing else: whatever a trial comes to is told here once. A trial that stopped early is
PRUNED with the values of its rungs, one that broke is FAIL with the reason, and one that a killed driver
left running goes on where its rungs stopped. The sampler is made anew for every question, seeded by
(seed, number of the trial), so that the next point depends on what is stored and not on who asks.

A point is drawn in a copy of the study in memory, and drawn again there if it was tried before. Only
then is the trial stored, with its point, in one write: a kill leaves a whole trial or none, and the
storage holds the trials of the search and no others.
"""

import contextlib
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from orchestrator.errors import HdsweepError, InputError, chain
from orchestrator.tuning.search import REDUCTION, Search
from trainables.file_kinds import odd_kind
from trainables.keys import derive_seed

REASON, DECISION, SECONDS = "reason", "decision_", "seconds"
STARTUP = 4  # Points drawn at random before a model is fitted.
MOST_REPEATED = 20  # Draws in a row that repeat an earlier point; the space is exhausted then.


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
        url = storage or str(journal_of(search))
        self.shown_url = _without_password(url)
        """Where the search is stored, for people and logs."""
        try:
            self.study = optuna.create_study(
                storage=_storage(url),
                study_name=search.name,
                direction="maximize",
                sampler=_sampler(search, 0),
                pruner=_pruner(search),
                load_if_exists=True,
            )
        except Exception as error:
            raise InputError(
                f"the storage of the search, {self.shown_url}, cannot be opened: "
                f"{_first_line(error)}",
                hint="another --storage, or an Optuna as new as the one that wrote it",
            ) from error
        _check_same(self.study, search)

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials in order."""
        return self.study.get_trials(deepcopy=False)

    def left(self) -> list[optuna.Trial]:
        """Return the trials that are running: those that an earlier driver left, at the start."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [optuna.Trial(self.study, trial._trial_id) for trial in running]

    def ask(self) -> tuple[optuna.Trial, dict[str, float]] | None:
        """Return a new trial with its values; None if the search has all its trials.

        A point that was tried before is not tried again: None as well once there is no other.
        """
        if len(self.trials) >= self._search.trials:
            return None
        drawn = self._drawn()
        if drawn is None:
            return None
        self.study.add_trial(drawn)
        trial = optuna.Trial(self.study, self.trials[-1]._trial_id)
        return trial, self.values(trial)

    def values(self, trial: optuna.Trial) -> dict[str, float]:
        """Return the values of a trial by parameter, drawing those that are not drawn yet."""
        return self._search.space.suggest(trial, self._search.space)

    def report(self, trial: optuna.Trial, rung: int, value: float) -> bool:
        """Record the value of a rung and return whether the trial is to stop there.

        What was decided stays decided: after a kill, later trials do not change it.
        """
        step, decision = self._search.step(rung), f"{DECISION}{rung}"
        if step not in self.rungs_of(trial):
            trial.report(value, step)
        if rung + 1 == self._search.rungs:
            return False
        if decision not in trial.user_attrs:
            trial.set_user_attr(decision, self._decided(trial))
        return bool(trial.user_attrs[decision]["stops"])

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

    def _drawn(self) -> FrozenTrial | None:
        """Return a running trial at a point that was not tried; None if none is found."""
        search = self._search
        for again in range(MOST_REPEATED):
            copy = self._copy()
            number = len(copy.trials)
            copy.sampler = _sampler(search, number)
            if again:
                # The model would answer the same: one that has converged, or a space of few points.
                seed = derive_seed(search.seed, "sampler", number, again)
                copy.sampler = optuna.samplers.RandomSampler(seed=seed)
            given = self._given()
            if given is not None:
                copy.enqueue_trial(given)
            elif search.sampler == "grid":
                return None
            trial = copy.ask()
            search.space.suggest(trial, search.space)
            drawn = copy.trials[-1]
            if not self._tried(drawn.params):
                return optuna.trial.create_trial(
                    state=TrialState.RUNNING,
                    params=drawn.params,
                    distributions=drawn.distributions,
                    # Where CMA-ES keeps its state.
                    system_attrs=drawn.system_attrs,
                )
        return None

    def _given(self) -> dict[str, float] | None:
        """Return the next point if no sampler decides on it: that of a grid, or the paper's own."""
        space = self._search.space
        if self._search.sampler == "grid":
            grid = space.grid or {}
            points = (dict(zip(grid, values, strict=True)) for values in product(*grid.values()))
            return next((point for point in points if not self._tried(point)), None)
        inside = all(low <= space.reference[n] <= high for n, (low, high) in space.bounds.items())
        return dict(space.reference) if inside and not self.trials else None

    def _tried(self, params: Mapping[str, Any]) -> bool:
        return any(trial.params == params for trial in self.trials)

    def _decided(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return what the pruner says of a trial, and the marks that it leaves on it.

        In a copy, so that both are stored in one write: with the marks alone, a pruner that is asked
        again believes the trial promoted.
        """
        copy = self._copy()
        before = copy.trials[trial.number]
        stops = optuna.Trial(copy, before._trial_id).should_prune()
        after = copy.trials[trial.number].system_attrs
        marks = {name: value for name, value in after.items() if name not in before.system_attrs}
        return {"stops": bool(stops), "marks": marks}

    def _copy(self) -> optuna.Study:
        """Return the study as it is now, in memory."""
        copy = optuna.create_study(study_name=self.study.study_name, direction="maximize")
        copy.pruner = self.study.pruner  # Samplers too treat the brackets of Hyperband apart.
        for trial in self.study.get_trials():
            for name, value in trial.user_attrs.items():
                if name.startswith(DECISION):
                    trial.system_attrs.update(value["marks"])
            copy.add_trial(trial)
        return copy


def journal_of(search: Search) -> Path:
    """Return the journal file of a search; `optuna-dashboard` opens it."""
    return search.home / "tuning" / f"{search.name}.journal"


@contextlib.contextmanager
def failures_of_storage(url: str) -> Iterator[None]:
    """Tell in a line that a storage which could be opened failed later, whatever wraps its error.

    Raises:
        HdsweepError: if it did; what was told until then is stored.
    """
    try:
        yield
    except Exception as error:
        inner = next((e for e in chain(error) if isinstance(e, StorageInternalError)), None)
        if inner is None:
            raise
        raise HdsweepError(
            f"the storage of the search, {url}, failed: {_first_line(inner.__cause__ or inner)}",
            hint="once it can be written again, the same command goes on where it stopped",
        ) from error


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

    path = Path(url)
    kind = odd_kind(path)
    if kind is not None:  # Opening it would wait for ever.
        raise OSError(f"it is {kind}, not a file")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        _mend(path)
    return JournalStorage(JournalFileBackend(url))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{user}{colon and ':***'}{at}{place}"


def _mend(journal: Path) -> None:
    """Remove what a killed driver may have left; the home is locked, so that no other is alive.

    The lock of the journal, for which Optuna would wait half a minute. And a last line that a full
    disk or a power cut left unfinished: Optuna would append to it, and never read the journal again.
    """
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(journal, whole)


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
            case _:  # For a grid too, whose points are given.
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
    for name, value in now.items():
        # A driver may have been killed while it noted them: what is missing is not another search.
        if name not in before:
            study.set_user_attr(name, value)
        elif before[name] != value:
            raise InputError(
                f"the search `{study.study_name}` was begun with {name} {before[name]}, not {value}",
                hint="go on with that, or give the new search a --name of its own",
            )
