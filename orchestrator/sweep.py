"""The driver's side of a sweep: hands runs out, takes results in, and alone writes the store.

Workers, resources and trials are Ray Tune's (`experiment`). An attempt is a trial of its own: a run
whose worker is lost is tried again under a new number, so that a worker that was only thought lost
cannot publish.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.attempts import Attempt
from orchestrator.events import Event, Kind, OnEvent
from orchestrator.failures import Failure
from orchestrator.frontier import Frontier
from orchestrator.plan import Plan, PlannedRun
from orchestrator.ray_session import ray_session
from orchestrator.stopping import Say, StopFlag, stopped_by_signals
from orchestrator.store import DamagedResultError, Store, StoredRun
from trainables.loop import Point


@dataclass
class SweepResult:
    """What came of a sweep."""

    planned: int
    reused: int = 0
    finished: int = 0
    failed: dict[str, Failure] = field(default_factory=dict)
    """By key."""
    blocked: dict[str, str] = field(default_factory=dict)
    """Runs that could not start: their key, and the key of the run that failed."""
    seconds: float = 0.0
    interrupted: bool = False


@dataclass(frozen=True)
class Options:
    """How to run a plan; changes no result."""

    address: str = "local"
    """Start Ray on this machine, or join this cluster."""
    workers: int | None = None
    """CPU slots on this machine; all cores by default."""
    retries: int = 2
    """Further attempts after an error or a lost worker."""
    keep_weights: bool = False
    """Store the weights of fine-tunings too."""
    checkpoint_seconds: float = 120.0
    report_seconds: float = 2.0


class Sweep:
    """The driver's side of one sweep: hands runs out, takes results in."""

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        store: Store,
        remaining: Mapping[str, float],
        *,
        options: Options,
        on_event: OnEvent,
        stop: StopFlag,
    ) -> None:
        self._store, self._options = store, options
        self._on_event, self._stop = on_event, stop
        finished = store.finished()
        self._artifacts: dict[str, Path] = {}
        self._attempts: dict[str, tuple[PlannedRun, Attempt]] = {}
        self._tries: dict[str, int] = {}
        self.result = SweepResult(planned=len(runs))
        waiting = []
        for run in runs:
            if run.key in finished:
                stored = finished[run.key]
                self._artifacts[run.key] = stored.artifacts
                self.result.reused += 1
                self._tell("reused", run, metrics=stored.metrics, seconds=stored.seconds)
            else:
                waiting.append(run)
        self._frontier = Frontier(waiting, self._artifacts, remaining)

    @property
    def over(self) -> bool:
        """Whether nothing will be started any more."""
        return self._frontier.exhausted or self._stop.draining

    def start_next(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of the next trial, recorded in the store before it starts.

        None if no run is ready just now.
        """
        run = self._frontier.take()
        if run is None:
            return None
        attempt = self._store.start(run, parent=self.parent_of(run))
        self._attempts[trial_id] = (run, attempt)
        self._tries[run.key] = self._tries.get(run.key, 0) + 1
        return self._configuration(run, attempt)

    def parent_of(self, run: PlannedRun) -> str | None:  # noqa: ARG002
        """Return the MLflow run that a run is stored below; None for that of the sweep."""
        return None

    def after_finish(self, run: PlannedRun, stored: StoredRun) -> None:
        """Do what a finished run entails beyond its being stored; nothing for a fixed plan."""

    def after_failure(self, run: PlannedRun, failure: Failure) -> None:
        """Do what a run that failed for good entails; nothing for a fixed plan."""

    def started(self, trial_id: str) -> None:
        """Note that a worker has begun."""
        run, attempt = self._attempts[trial_id]
        self._tell("started", run, attempt=attempt.number)

    def reported(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Take in a result: a sign of life, the end of a run, or a failure."""
        run, attempt = self._attempts[trial_id]
        if "failure" in result:
            failure = Failure(**json.loads(result["failure"]), attempt=attempt.number)
            self._failed(trial_id, failure)
            return
        points = [Point(*row) for row in result["points"]]
        if result["finished"]:
            self._finished(trial_id)
            return
        self._store.log_points(run.key, points)
        self._tell("progress", run, attempt=attempt.number, fraction=result["fraction"])

    def lost(self, trial_id: str, message: str, *, out_of_memory: bool) -> None:
        """Take in that a worker died."""
        if trial_id not in self._attempts:
            return  # Its end had been taken in before.
        _, attempt = self._attempts[trial_id]
        kind: Any = "out_of_memory" if out_of_memory else "worker_lost"
        first_line = message.strip().partition("\n")[0] or "the worker died"
        self._failed(trial_id, Failure(kind, first_line, message, attempt.number))

    def _finished(self, trial_id: str) -> None:
        run, attempt = self._attempts[trial_id]
        try:
            stored = self._store.commit(run.key, attempt)
        except DamagedResultError as error:
            # A full or failing disk: the attempt counts as failed, the sweep goes on.
            self._failed(trial_id, Failure("error", str(error), attempt=attempt.number))
            return
        del self._attempts[trial_id]
        self._artifacts[run.key] = stored.artifacts
        self._frontier.finish(run.key)
        self.result.finished += 1
        self._tell(
            "finished",
            run,
            attempt=attempt.number,
            fraction=1.0,
            metrics=stored.metrics,
            seconds=stored.seconds,
        )
        self.after_finish(run, stored)

    def _failed(self, trial_id: str, failure: Failure) -> None:
        run, attempt = self._attempts.pop(trial_id)
        self._store.fail(run.key, attempt, failure)
        if not failure.permanent and self._tries[run.key] <= self._options.retries:
            self._frontier.put_back(run.key)
            self._tell("retrying", run, attempt=attempt.number, message=str(failure))
            return
        self.result.failed[run.key] = failure
        self._tell("failed", run, attempt=attempt.number, message=str(failure))
        for blocked in self._frontier.give_up(run.key):
            self.result.blocked[blocked.key] = run.key
            self._tell("blocked", blocked, message=f"{run.label} failed")
        self.after_failure(run, failure)

    def _configuration(self, run: PlannedRun, attempt: Attempt) -> dict[str, Any]:
        assert run.dataset_folder is not None, "`require_ready` lets only prepared data through"
        places = self.places_of(run, attempt)
        return {
            "spec": run.spec.model_dump(mode="json"),
            "places": {
                **{name: str(path) if path else None for name, path in places.items()},
                "device": "auto",
                "keep_weights": run.pretraining or self._options.keep_weights,
            },
            "attempt": attempt.number,
            "log": str(attempt.log),
            "stop_file": str(self._stop.file),
            "checkpoint_seconds": self._options.checkpoint_seconds,
            "report_seconds": self._options.report_seconds,
        }

    def places_of(self, run: PlannedRun, attempt: Attempt) -> dict[str, Path | None]:
        """Return the paths of the fields of a `Places`."""
        return {
            "dataset": run.dataset_folder,
            "checkpoints": attempt.checkpoints,
            "artifacts": attempt.artifacts,
            "pretrained": self._artifacts[run.needs] if run.needs else None,
            "backbone": run.backbone,
            "code": run.code,
        }

    def _tell(self, kind: Kind, run: PlannedRun, **details: Any) -> None:
        self._on_event(Event(kind=kind, run=run, time=time.time(), **details))


def run_sweep(
    plan: Plan,
    store: Store,
    remaining: Mapping[str, float],
    *,
    options: Options,
    on_event: OnEvent,
    say: Say,
) -> SweepResult:
    """Run what is missing of a plan and return what came of it.

    Args:
        plan: every dataset and weight file that it needs is there.
        store: open for writing.
        remaining: seconds of the longest path from each run, by key.
        options: where to run, how often to try, what to keep.
        on_event: told of every change, from this thread.
        say: told what a signal does.

    Raises:
        InputError: if the Ray cluster asked for is not there.
    """
    start = time.monotonic()
    stop = StopFlag(store.stop_file)
    sweep = Sweep(plan.runs, store, remaining, options=options, on_event=on_event, stop=stop)
    if sweep.result.reused < sweep.result.planned:
        # Ray has handlers of its own, so ours come after it.
        with (
            ray_session(options.address, workers=options.workers) as folder,
            stopped_by_signals(stop, say),
        ):
            from orchestrator.experiment import run_experiment

            run_experiment(sweep, plan.study, stop, folder)
    sweep.result.interrupted = stop.draining
    sweep.result.seconds = time.monotonic() - start
    return sweep.result
