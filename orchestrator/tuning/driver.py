"""The driver of a search: the sweep's, with runs that appear as trials are asked for and go on.

Ray Tune runs them as it runs a table's. A trial is open from the question to the telling; as many are
open as there are workers, so that with one worker the search is sequential and repeatable.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import optuna

from orchestrator.plan.plan import PlannedRun
from orchestrator.process.stopping import StopFlag
from orchestrator.store.failures import Failure
from orchestrator.store.home.attempts import Attempt
from orchestrator.store.home.home import Home
from orchestrator.store.store import Store, StoredRun
from orchestrator.sweep.events import OnEvent
from orchestrator.sweep.options import Options
from orchestrator.sweep.start import run_on_ray
from orchestrator.sweep.sweep import Sweep
from orchestrator.tuning.ledger import SECONDS, Ledger
from orchestrator.tuning.record import Record
from orchestrator.tuning.search import Search

Notice = Callable[[str], None]
"""Told one line per trial that moves."""


@dataclass
class OpenTrial:
    """A trial that is being tried."""

    trial: optuna.Trial
    values: dict[str, float]
    rung: int = 0
    pretraining: PlannedRun | None = None
    fine_tunings: tuple[PlannedRun, ...] = ()
    waiting: set[str] = field(default_factory=set)
    """Keys of the runs of this rung that are not finished."""
    states: list[Path] = field(default_factory=list)
    """Training states that its rungs left."""
    seconds: dict[str, float] = field(default_factory=dict)
    """What its fine-tunings took, by key, and its pretraining, all rungs together."""

    @property
    def cost(self) -> float:
        """Device-seconds so far."""
        return sum(self.seconds.values())


class TuningSweep(Sweep):
    """A sweep whose runs are those of the open trials of a search."""

    STOPS_METHODS = False  # A value that fails says nothing of the others.

    def __init__(
        self,
        search: Search,
        ledger: Ledger,
        record: Record,
        store: Store,
        *,
        options: Options,
        on_event: OnEvent,
        stop: StopFlag,
        notice: Notice,
    ) -> None:
        super().__init__((), store, {}, options=options, on_event=on_event, stop=stop)
        self._search, self._ledger, self._record = search, ledger, record
        self._notice = notice
        self._stored = dict(store.finished())
        self._planned: set[str] = set()
        self._failed_runs: dict[str, Failure] = {}
        """By key: what failed for good in this session."""
        self._open: dict[int, OpenTrial] = {}
        self._width = self.devices.count
        for trial in ledger.left():
            self._begin(trial, ledger.values(trial))

    @property
    def over(self) -> bool:
        """Whether nothing will be started any more."""
        if self._stop.draining or (self.result.halted and not self._trials):
            return True
        while not self._open and self._ask():
            pass  # A trial all of whose runs are stored is over as soon as it is asked for.
        return not self._open and self._frontier.exhausted

    def start_next(self, trial_id: str) -> dict[str, object] | None:
        """Return the configuration of the next run, asking for a new trial if all others wait."""
        configuration = super().start_next(trial_id)
        while configuration is None and len(self._open) < self._width and self._ask():
            configuration = super().start_next(trial_id)
        return configuration

    def parent_of(self, run: PlannedRun) -> str | None:
        """Return the MLflow run of the first open trial that needs a run."""
        for number, trial in self._open.items():
            if run.key in trial.waiting:
                return self._record.run_of(number)
        return None

    def places_of(self, run: PlannedRun, attempt: Attempt) -> dict[str, Path | None]:
        """Return the paths of a run; a pretraining leaves its state, and starts from an earlier one."""
        places = super().places_of(run, attempt)
        if not run.pretraining or len(self._search.budgets) < 2:
            return places
        before = None
        for trial in self._open.values():
            if trial.pretraining is not None and trial.pretraining.key == run.key:
                before = next(filter(self._store.has_folder, reversed(trial.states)), None)
                last = trial.rung + 1 == self._search.rungs
                state = None if last else self._state_of(run.key)
                return {**places, "continued": before, "leave_state": state}
        return places

    def after_finish(self, run: PlannedRun, stored: StoredRun) -> None:
        """Bring the trials forward that waited for a run."""
        self._stored[run.key] = stored
        for number in list(self._open):
            trial = self._open.get(number)
            if trial is not None and run.key in trial.waiting:
                trial.waiting.discard(run.key)
                self._move(number)

    def after_failure(self, run: PlannedRun, failure: Failure) -> None:
        """Let the trials fail that needed a run."""
        self._failed_runs[run.key] = failure
        for number, trial in list(self._open.items()):
            if run.key in trial.waiting:
                self._fail(number, run, failure)

    def _ask(self) -> bool:
        asked = self._ledger.ask()
        if asked is None:
            return False
        self._begin(*asked)
        return True

    def _begin(self, trial: optuna.Trial, values: dict[str, float]) -> None:
        """Open a trial at the first rung that it has no value for."""
        self._open[trial.number] = OpenTrial(trial, values)
        self._record.begin(trial.number, values)
        self._enter(trial.number, 0)

    def _enter(self, number: int, rung: int) -> None:
        """Plan the runs of a rung; those that are stored already are finished."""
        trial = self._open[number]
        trial.rung = rung
        trial.pretraining, trial.fine_tunings = self._search.runs(trial.values, rung)
        runs = (trial.pretraining, *trial.fine_tunings)
        self._record.uses(number, rung, [run.key for run in runs])
        if rung + 1 < self._search.rungs:
            trial.states.append(self._state_of(trial.pretraining.key))
        # Fine-tunings that are stored need no pretraining any more.
        missing = [run for run in trial.fine_tunings if run.key not in self._stored]
        if missing and trial.pretraining.key not in self._stored:
            missing.insert(0, trial.pretraining)
        for run in missing:
            # Another trial needed it too: it is not tried again, and waiting for it would never end.
            if run.key in self._failed_runs:
                self._fail(number, run, self._failed_runs[run.key])
                return
        trial.waiting = {run.key for run in missing}
        fresh = [run for run in missing if run.key not in self._planned]
        self._planned |= {run.key for run in fresh}
        self._planned_runs |= {run.key: run for run in runs}
        self.result.planned += len(fresh)
        self.result.reused += 1 + len(trial.fine_tunings) - len(missing)
        for run in runs:
            if run.key in self._stored:
                self._artifacts[run.key] = self._stored[run.key].artifacts
                self._frontier.note_finished(run.key)
        self._frontier.add(fresh, {run.key: 2.0 if run.pretraining else 1.0 for run in fresh})
        self._move(number)

    def _move(self, number: int) -> None:
        """Decide on a trial all of whose runs of this rung are finished."""
        trial = self._open[number]
        if trial.waiting:
            return
        by_target = self._by_target(trial)
        self._count(trial)
        value = aggregate(by_target, self._search.objective)
        if not math.isfinite(value):
            # At any rung: a pruner would take it for a bad value, and the trial for stopped.
            self._give_up(number, f"its value is {value}", f"its value is {value}")
            return
        self._ledger.note(
            trial.trial, f"rung_{trial.rung}", {t: list(v) for t, v in by_target.items()}
        )
        stops = self._ledger.report(trial.trial, trial.rung, value)
        self._record.report(number, trial.rung, value, by_target, self._search)
        shown = f"{value:.2f} %" + (
            f" at {self._updates_of(trial)}" if self._search.rungs > 1 else ""
        )
        if stops:
            self._ledger.note(trial.trial, SECONDS, trial.cost)
            self._ledger.prune(trial.trial)
            self._close(number, "stopped", shown)
        elif trial.rung + 1 < self._search.rungs:
            self._notice(f"trial {number} {_worded(trial.values)}: {shown}, goes on")
            self._enter(number, trial.rung + 1)
            return
        else:
            self._ledger.note(trial.trial, SECONDS, trial.cost)
            self._ledger.complete(trial.trial, value)
            self._close(number, "complete", shown)
        self._record.told(number, self._ledger)

    def _fail(self, number: int, run: PlannedRun, failure: Failure) -> None:
        """Let a trial fail because of one of its runs."""
        self._give_up(number, f"{failure.kind}: {failure.message}", f"{run.label}: {failure}")

    def _give_up(self, number: int, reason: str, shown: str) -> None:
        trial = self._open[number]
        self._ledger.note(trial.trial, SECONDS, trial.cost)
        self._ledger.fail(trial.trial, reason)
        self._close(number, "failed", shown)
        self._record.told(number, self._ledger)

    def _close(self, number: int, how: str, detail: str) -> None:
        trial = self._open.pop(number)
        for state in trial.states:
            if not any(state in other.states for other in self._open.values()):
                self._store.remove_folder(state)
        self._notice(f"trial {number} {_worded(trial.values)}: {how}, {detail}")

    def _count(self, trial: OpenTrial) -> None:
        """Count what the runs of a rung took; a pretraining counts from its first update."""
        runs = [run for run in trial.fine_tunings if run.key in self._stored]
        trial.seconds |= {run.key: self._stored[run.key].seconds for run in runs}
        if trial.pretraining is not None and trial.pretraining.key in self._stored:
            trial.seconds["pretraining"] = self._stored[trial.pretraining.key].seconds

    def _by_target(self, trial: OpenTrial) -> dict[str, tuple[float, ...]]:
        """Return the validation values of each target by tuning seed."""
        found: dict[str, list[float]] = {}
        for run in trial.fine_tunings:
            metric = f"val_{run.spec.dataset.metric}"
            found.setdefault(run.target or "", []).append(self._stored[run.key].metrics[metric])
        return {target: tuple(values) for target, values in found.items()}

    def _updates_of(self, trial: OpenTrial) -> str:
        return f"{self._search.budgets[trial.rung]} updates"

    def _state_of(self, key: str) -> Path:
        return self._search.home / "tuning" / "states" / key


def aggregate(by_target: Mapping[str, tuple[float, ...]], objective: str) -> float:
    """Return the value of a trial: the mean over targets, or the worst, of the means over seeds."""
    means = [fmean(values) for values in by_target.values()]
    return min(means) if objective == "worst-target" else fmean(means)


def run_search(
    search: Search,
    ledger: Ledger,
    store: Store,
    *,
    options: Options,
    on_event: OnEvent,
    notice: Notice,
    home: Home,
    stop: StopFlag,
) -> TuningSweep:
    """Make the trials of a search that are missing.

    Raises:
        InputError: if the Ray cluster asked for is not there, or a node of it cannot take part.
    """
    started = time.monotonic()
    record = Record(search, store)
    sweep = TuningSweep(
        search,
        ledger,
        record,
        store,
        options=options,
        on_event=on_event,
        stop=stop,
        notice=notice,
    )
    record.take_in(ledger)
    if not sweep.over:
        run_on_ray(sweep, store, "tune", options=options, stop=stop, needed={})
    came = sweep.ended(started)
    complete = not (came.interrupted or came.halted)
    if complete:
        store.remove_folder(home.path / "tuning" / "states")
    record.end(complete=complete)
    return sweep


def _worded(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())
