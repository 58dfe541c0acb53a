"""The driver's side of a sweep: hands runs out, takes results in, and alone writes the store.

Workers, resources and trials are Ray Tune's (`experiment`). An attempt is a trial of its own: a run
whose worker is lost is tried again under a new number, so that a worker that was only thought lost
cannot publish.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from orchestrator.cluster.hardware import local_devices
from orchestrator.cluster.nodes import IN_A_ROW, NodeRecord, name_of
from orchestrator.plan.order import Frontier, all_alike, seeds_first
from orchestrator.plan.plan import PlannedRun
from orchestrator.process.stopping import StopFlag
from orchestrator.store.failures import Failure
from orchestrator.store.failures import Kind as FailureKind
from orchestrator.store.home.attempts import Attempt
from orchestrator.store.store import DamagedResultError, Store, StoredRun
from orchestrator.sweep.budget import Budget
from orchestrator.sweep.events import Event, Kind, OnEvent
from orchestrator.sweep.options import Options
from orchestrator.sweep.outcome import SweepResult
from orchestrator.sweep.retries import RunRecord, decide, micro_batch_of
from trainables.code import method_hash
from trainables.config import RunSpec
from trainables.history import Point

ALIKE = 2  # Runs of a method that fail for good in the same way, after which it is stopped.


@dataclass(frozen=True)
class Trial:
    """A run that a worker has, or is about to have."""

    run: PlannedRun
    attempt: Attempt
    node: str = ""
    """Ray's name of the machine that it was last heard of from."""
    heard_of: bool = False
    """Whether it has told of an update."""


class Sweep:
    """The driver's side of one sweep: hands runs out, takes results in."""

    STOPS_METHODS: ClassVar[bool] = True
    """Whether a method whose runs fail in one and the same way is stopped; the others go on."""

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        store: Store,
        remaining: Mapping[str, float],
        *,
        options: Options,
        on_event: OnEvent,
        stop: StopFlag,
        budget: Budget | None = None,
    ) -> None:
        self._store, self._options = store, options
        self._on_this_machine = options.address == "local" and store.home.mirror is None
        self._on_event, self._stop = on_event, stop
        self.devices = options.devices or local_devices(options.workers)
        self._budget, self._out_of_budget = budget, False
        finished = store.finished()
        self._artifacts: dict[str, Path] = {}
        self._trials: dict[str, Trial] = {}
        """What runs now, by the name of its trial."""
        self._records: defaultdict[str, RunRecord] = defaultdict(RunRecord)
        """By key."""
        self._nodes = NodeRecord()
        self._stuck: dict[tuple[str, str], set[str]] = {}
        """Keys of the runs of a method that failed for good in one way: method and fingerprint."""
        self._method_codes = {
            run.key: method_hash(run.spec.task, run.code) for run in runs if run.code is not None
        }
        """Hashes of the files of tasks of the user's own, by key."""
        self._planned_runs = {run.key: run for run in runs}
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
        rank = seeds_first(runs) if options.order == "seeds-first" else all_alike
        self._frontier = Frontier(waiting, self._artifacts, remaining, rank=rank)

    @property
    def joins_cluster(self) -> bool:
        """Whether Ray runs on machines that others started."""
        return self._options.address != "local"

    @property
    def over(self) -> bool:
        """Whether nothing will be started any more."""
        if self._ends and not self._trials:
            return True
        return self._frontier.exhausted or self._stop.draining

    @property
    def _ends(self) -> bool:
        """Whether nothing is started any more, though there is more to do."""
        return self._out_of_budget or bool(self.result.halted)

    def ended(self, started: float) -> SweepResult:
        """Return what came of it, now that nothing runs any more.

        Args:
            started: when it began, by the monotonic clock, in seconds.
        """
        self.result.interrupted, self.result.stopped_by = self._stop.draining, self._stop.number
        self.result.within_budget = not self._out_of_budget
        self.result.seconds = time.monotonic() - started
        return self.result

    def wanted(self) -> Iterator[RunSpec]:
        """Yield the specs of what runs, then of what could."""
        return (run.spec for run in self._frontier.wanted())

    def start_next(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of the next trial, recorded in the store before it starts.

        None if no run is ready just now.
        """
        run = None if self._ends else self._frontier.take()
        if run is None:
            return None
        if run.needs is not None:
            if not self._store.is_whole(run.needs):
                self._train_again(run)
                return self.start_next(trial_id)
            self._artifacts[run.needs] = self._store.folder_of(run.needs)
        if self._budget is not None and not self._budget.admits(run.key):
            self._frontier.put_back(run.key)
            self._out_of_budget = True
            return None
        attempt = self._store.start(run, parent=self.parent_of(run))
        record = self._records[run.key]
        if attempt.number > 1 and record.furthest is None:
            record = replace(record, furthest=self._store.furthest(run.key))
        self._records[run.key] = replace(record, tries=record.tries + 1)
        self._trials[trial_id] = Trial(run, attempt)
        if self._budget is not None:
            self._budget.start(run.key)
        return self._configuration(run, attempt)

    def _train_again(self, run: PlannedRun) -> None:
        """Have the pretraining of a run trained again, which somebody removed with its artifacts."""
        assert run.needs is not None, "only a run that needs another comes here"
        needed = self._planned_runs[run.needs]
        self._frontier.put_back(run.key)
        self._frontier.lose(needed)
        if self._records[needed.key].tries:
            self.result.finished -= 1
        else:
            self.result.reused -= 1
        self._tell("retrying", needed, message="its artifacts were removed: it is trained again")

    def parent_of(self, run: PlannedRun) -> str | None:  # noqa: ARG002
        """Return the MLflow run that a run is stored below; None for that of the sweep."""
        return None

    def after_finish(self, run: PlannedRun, stored: StoredRun) -> None:
        """Do what a finished run entails beyond its being stored; nothing for a fixed plan."""

    def after_failure(self, run: PlannedRun, failure: Failure) -> None:
        """Do what a run that failed for good entails; nothing for a fixed plan."""

    def started(self, trial_id: str) -> None:
        """Note that a worker has begun."""
        trial = self._trials[trial_id]
        self._tell("started", trial.run, attempt=trial.attempt.number)

    def reported(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Take in a result: a sign of life, the end of a run, or a failure."""
        trial = replace(self._trials[trial_id], node=result.get("node", ""))
        self._trials[trial_id] = trial
        run, attempt = trial.run, trial.attempt
        if "failure" in result:
            failure = Failure.of(**json.loads(result["failure"]), attempt=attempt.number)
            self._failed(trial_id, failure)
            return
        self._count_redone(trial, result)
        self._trials[trial_id] = replace(trial, heard_of=True)
        points = [Point(*row) for row in result["points"]]
        if result["finished"]:
            self._finished(trial_id)
            return
        self._store.log_points(run.key, points)
        self._note(run.key, reached=result["fraction"])
        self._tell("progress", run, attempt=attempt.number, fraction=result["fraction"])

    def _count_redone(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """Count the updates between where a run had come and where this attempt went on."""
        key = trial.run.key
        furthest = self._records[key].furthest or 0
        redone = furthest - result["resumed_at"]
        if not trial.heard_of and redone > 0:
            self.result.updates_redone += redone
            self._store.add_redone(key, redone)
        self._note(key, furthest=max(result["update"], furthest))

    def _note(self, key: str, **known: Any) -> None:
        """Keep what became known of a run."""
        self._records[key] = replace(self._records[key], **known)

    def lost(self, trial_id: str, message: str, kind: FailureKind) -> None:
        """Take in that a worker died."""
        if trial_id not in self._trials:
            return  # Its end had been taken in before.
        attempt = self._trials[trial_id].attempt
        first_line = message.strip().partition("\n")[0] or "the worker died"
        self._failed(trial_id, Failure.of(kind, first_line, message, attempt.number))

    def _finished(self, trial_id: str) -> None:
        trial = self._trials[trial_id]
        run, attempt = trial.run, trial.attempt
        try:
            stored = self._store.commit(run.key, attempt)
        except DamagedResultError as error:
            # A full or failing disk: the attempt counts as failed, the sweep goes on.
            self._failed(trial_id, Failure.of("error", str(error), attempt=attempt.number))
            return
        self._nodes.succeeded(trial.node)
        self._let_go(trial_id)
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
        if failure.kind == "other_code":
            self._refused(trial_id, failure)
            return
        note = self._blame(trial_id, failure)
        trial = self._let_go(trial_id)
        run, attempt = trial.run, trial.attempt
        self._store.fail(run.key, attempt, failure)
        decision = decide(
            self._records[run.key],
            failure,
            retries=self._options.retries,
            micro_batch=micro_batch_of(run.spec),
            nodes=len(self._nodes.failed_on(run.key)),
        )
        self._records[run.key] = decision.record
        if decision.again:
            self._frontier.put_back(run.key)
            size = decision.record.micro_batch
            less = f"; again with {size} images at once" if size else ""
            self._tell("retrying", run, attempt=attempt.number, message=f"{failure}{less}{note}")
            return
        self.result.failed[run.key] = failure
        self._tell("failed", run, attempt=attempt.number, message=f"{failure}{note}")
        self._block(run.key, f"{run.label} failed", self._frontier.give_up(run.key))
        if self.STOPS_METHODS and failure.kind == "error":
            self._stop_methods(run, failure)
        self.after_failure(run, failure)

    def _refused(self, trial_id: str, failure: Failure) -> None:
        """Keep off a node that has other code than the driver; if that is not enough, end."""
        trial = self._let_go(trial_id)
        run, attempt, node = trial.run, trial.attempt, trial.node
        self._store.fail(run.key, attempt, failure)
        self._frontier.put_back(run.key)
        self._note(run.key, tries=self._records[run.key].tries - 1)
        if self.joins_cluster and node and self._nodes.unfit(node):
            self.result.avoided_nodes.append(name_of(node))
            why = f"{failure.message}; node {name_of(node)} is avoided from now on"
        else:
            why = self.result.halted = (
                f"{failure.message}: it was changed while the sweep ran. What runs is finished, "
                "and the same command goes on with the code as it is now"
            )
        self._tell("retrying", run, attempt=attempt.number, message=why)

    def _blame(self, trial_id: str, failure: Failure) -> str:
        """Hold a failure against its node, if it can be the node's; return what is to be told of it."""
        trial = self._trials[trial_id]
        node = trial.node
        if not (self.joins_cluster and node) or failure.kind not in ("error", "worker_lost"):
            return ""
        if not self._nodes.failed(node, trial.run.key):
            return ""
        self.result.avoided_nodes.append(name_of(node))
        return (
            f"; node {name_of(node)} is avoided from now on: {IN_A_ROW} runs in a row failed there"
        )

    def _let_go(self, trial_id: str) -> Trial:
        """Return a trial that has ended, and take its devices from the account."""
        trial = self._trials.pop(trial_id)
        if self._budget is not None:
            self._budget.stop(trial.run.key)
        return trial

    def _stop_methods(self, run: PlannedRun, failure: Failure) -> None:
        """Stop the methods of a run, if another of their runs failed for good in the same way."""
        stopped = set()
        for method in run.methods:
            alike = self._stuck.setdefault((method, failure.fingerprint), set())
            alike.add(run.key)
            if len(alike) >= ALIKE:
                stopped.add(method)
        why = f"{', '.join(sorted(stopped))} stopped: {ALIKE} of its runs failed in the same way"
        self._block(run.key, why, self._frontier.drop_methods(stopped))

    def _block(self, by: str, why: str, runs: Sequence[PlannedRun]) -> None:
        for run in runs:
            self.result.blocked[run.key] = by
            self._tell("blocked", run, message=why)

    def _configuration(self, run: PlannedRun, attempt: Attempt) -> dict[str, Any]:
        assert run.dataset_folder is not None, "`require_ready` lets only prepared data through"
        places = self.places_of(run, attempt)
        return {
            "spec": run.spec.model_dump(mode="json"),
            "home": None if self._on_this_machine else self._store.home.address,
            "places": {
                **{field: self._named(path) for field, path in places.items()},
                "device": "auto",
                "keep_weights": run.pretraining or self._options.keep_weights,
                "micro_batch": self._records[run.key].micro_batch,
            },
            "attempt": attempt.number,
            "avoid": sorted(self._nodes.avoided | self._nodes.failed_on(run.key)),
            "log": self._named(attempt.log),
            "stop_file": self._named(self._stop.file),
            "method_code": self._method_codes.get(run.key),
            "checkpoint_seconds": self._options.checkpoint_seconds,
            "report_seconds": self._options.report_seconds,
        }

    def _named(self, path: Path | None) -> str | None:
        """Return how a worker is told of a path: below the home, where many machines share it."""
        home = self._store.home
        if path is None or self._on_this_machine:
            return None if path is None else str(path)
        if path.is_relative_to(home.path):
            return path.relative_to(home.path).as_posix()
        return str(path) if home.mirror is None else home.mirror.carry_code(path)

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
