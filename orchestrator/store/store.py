"""The store of record, on MLflow: one MLflow run per run key, published exactly once.

The driver alone writes it. A worker fills the folder of its attempt; `commit` checks that folder
against its own manifest, moves it to where MLflow looks for artifacts, and only then writes the
metrics and the status. Killed between any two of these steps, the next driver finds either a whole
attempt to publish or a published folder to record, and `Store.open` does so before anything starts.
The same rule brings back a database that was lost: each published folder holds all that it knew.

    parent run (a study at a scale) -> one child per run key, one summary per row and target
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from orchestrator.errors import HdsweepError
from orchestrator.plan.plan import PlannedRun
from orchestrator.process.stopping import Say, StopFlag
from orchestrator.provenance import provenance
from orchestrator.store.book import LONGEST_TAG, Book
from orchestrator.store.failures import Failure
from orchestrator.store.groups import GroupStore
from orchestrator.store.home.attempts import LABELS, Attempt
from orchestrator.store.home.home import Home, locked
from orchestrator.store.home.run_folders import RunFolders
from orchestrator.store.mending import as_stored, bring_back, number_of, tell_of_others
from orchestrator.store.run_parameters import dataset_input, parameters, starts_from_another
from orchestrator.store.shared import GROUP, SUMMARY, metric, prefixed
from orchestrator.store.sweeps.records import SWEEP, SWEEP_KEY
from orchestrator.store.sweeps.stored import SweepStore
from orchestrator.store.tags import ATTEMPT, KEY, KIND, PARENT
from orchestrator.store.tracking import artifact_locations, schema
from orchestrator.store.tracking import database as tracking_database
from orchestrator.store.tracking.database import Known, Runs, experiment_name
from trainables.history import Point
from trainables.result import RESULT_FILE, Result

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

# MLflow itself is imported where it is written to: that takes seconds, which reading does not need.

FAILURE, MESSAGE, SITE = "hdsweep.failure", "hdsweep.message", "hdsweep.failure_site"
REDONE = "hdsweep.updates_redone"


class StaleAttemptError(HdsweepError):
    """A worker that was given up for lost came back; its run has been handed to another."""


class DamagedResultError(HdsweepError):
    """What an attempt left behind does not match its own manifest."""


@dataclass(frozen=True)
class StoredRun:
    """A finished run."""

    key: str
    run_id: str
    artifacts: Path
    metrics: Mapping[str, float]
    seconds: float
    tags: Mapping[str, str]


class Store(SweepStore, GroupStore):
    """The tracking database and the artifacts of one home. Make it with `open` or `read`."""

    def __init__(
        self,
        home: Home,
        runs: Runs,
        *,
        client: MlflowClient | None = None,
        experiment: str = "",
        tell: Say = lambda _: None,
    ) -> None:
        self.home, self._connected = home, client
        self._experiment, self._tell = experiment, tell
        self._folders = RunFolders(home)
        self._runs: dict[str, Known] = {}
        self._parents: dict[str, Known] = {}
        self._summaries: dict[str, Known] = {}
        self._groups: dict[str, Known] = {}
        self._logged: dict[str, set[tuple[str, int]]] = {}
        self.reconciled: dict[str, str] = {}
        """What was done on opening about runs that a killed driver left, by key."""
        self.moved: str | None = None
        """What there is to tell of a home that was moved, copied or of an older schema when it was opened."""
        self._twice: list[Known] = []
        self._without_values: set[str] = set()
        """Keys of finished runs that were made again in MLflow; their folders have the values."""
        self._deleted = runs.deleted
        for run in runs.known:
            self._keep(as_stored(run, self._folders, every=client is not None))

    @property
    def _client(self) -> MlflowClient:
        if self._connected is None:
            from orchestrator.store.tracking import client as tracking

            self._connected = tracking.connect(self.home)
        return self._connected

    @cached_property
    def _book(self) -> Book:
        return Book(
            self.home,
            self._client,
            self._experiment,
            tell=self._tell,
            deleted=self._deleted,
            on_replaced=self._replaced,
        )

    def has_folder(self, folder: Path) -> bool:
        """Return whether a folder of the home is there that a run may have left."""
        return self._folders.has(folder)

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder of the home that no run reads any more."""
        self._folders.remove(folder)

    def stop_flag(self) -> StopFlag:
        """Return what tells workers that somebody asked the sweep to stop."""
        return StopFlag(self.home.attempts / "stop", self.home.mirror)

    @classmethod
    @contextmanager
    def open(cls, home: Home, tell: Say = lambda _: None) -> Iterator[Self]:
        """Open for writing, as the only driver, and complete what a killed one left.

        Args:
            tell: takes a line about what people did to the store in MLflow.

        Raises:
            InputError: if another driver is alive, or the database is damaged or locked.
            HdsweepError: on the way out, if the home could not be written to in the middle.
        """
        from orchestrator.store.tracking import client as tracking

        with locked(home), tracking.failures_told(home), cls._unlocked(home, tell) as store:
            yield store

    @classmethod
    @contextmanager
    def _unlocked(cls, home: Home, tell: Say = lambda _: None) -> Iterator[Self]:
        """Open for writing; the caller holds the lock."""
        from orchestrator.store.tracking import client as tracking

        # Before any worker starts: concurrent first writers of a fresh database race.
        tracking.create(home)
        tracking_database.require_writable(home)
        moved = artifact_locations.mend(home)
        upgraded = schema.upgrade(home)
        client = tracking.connect(home)
        experiment, was_there = tracking.our_experiment(client, home, tell)
        runs = tracking.every_run(home, client, experiment)
        store = cls(home, runs, client=client, experiment=experiment, tell=tell)
        tell_of_others((store._runs,), tell)
        store._bring_back(runs)
        store.reconciled = store.reconcile()
        anew = None if was_there else artifact_locations.recorded_anew(home)
        store.moved = "\n".join(filter(None, (moved or anew, upgraded))) or None
        try:
            yield store
        finally:
            tracking.close(home)
            home.push()

    @classmethod
    def read(cls, home: Home) -> Self | None:
        """Open for reading beside a driver that may be alive; None if nothing was ever stored.

        Raises:
            InputError: if the home is of a newer version, or the database is damaged.
        """
        if not home.exists():
            return None
        if home.tracking_uri:
            from orchestrator.store.tracking import client as tracking

            runs = tracking.read(home)
        else:
            runs = tracking_database.read_runs(home, experiment_name(home))
        if runs is None:
            artifact_locations.require_recorded(home)
        return None if runs is None else cls(home, runs)

    def finished(self) -> dict[str, StoredRun]:
        """Return the finished runs by key."""
        return {
            key: self._stored(key) for key, run in self._runs.items() if run.status == "FINISHED"
        }

    def failures(self) -> dict[str, Failure]:
        """Return the last failure of each run that is not finished and has one."""
        return {
            key: Failure(
                kind=run.tags[FAILURE],  # type: ignore[arg-type]
                message=run.tags.get(MESSAGE, ""),
                attempt=number_of(run),
                site=run.tags.get(SITE, ""),
            )
            for key, run in self._runs.items()
            if run.status == "FAILED" and FAILURE in run.tags
        }

    def log_of(self, key: str) -> Path | None:
        """Return the log of the last failed attempt at a run; None if there is none."""
        number = number_of(self._runs[key])
        path = self._published(key) / f"attempt-{number}.log"
        return path if path.is_file() else None

    def running(self) -> dict[str, int]:
        """Return the attempt number of each run that is marked as running, by key."""
        return {key: number_of(run) for key, run in self._runs.items() if run.status == "RUNNING"}

    def specs(self) -> dict[str, dict[str, Any]]:
        """Return the specs of the finished runs by key, as they were stored."""
        return {
            key: json.loads((stored.artifacts / "spec.json").read_text(encoding="utf-8"))
            for key, stored in self.finished().items()
            if (stored.artifacts / "spec.json").is_file()
        }

    def start(self, run: PlannedRun, *, parent: str | None = None) -> Attempt:
        """Record a new attempt at a run, durably, and return where its worker is to write.

        Args:
            parent: id of the MLflow run to nest a run under that is new; the sweep by default.
        """
        known = self._runs.get(run.key)
        number = 1 + max(self._numbers_used(run.key, known), default=0)
        labels = {ATTEMPT: str(number), **prefixed(provenance())}
        if known is None:
            labels |= _labels(run)
            if parent is None and self._sweep is not None:
                parent = self._parents[self._sweep].run_id
            if parent is not None:
                labels[PARENT] = parent
            known = self._book.create(run.name, labels)
        else:
            known = self._book.write(known, tags=labels, status="RUNNING")
        self._runs[run.key] = known
        self._log_params(run.key, run.spec.model_dump(mode="json"))
        attempt = self._attempt(run.key)
        self._folders.begin(attempt)
        return attempt

    def log_points(self, key: str, points: Iterable[Point]) -> None:
        """Log values of a running run; each name and step once, whatever the attempt."""
        self._write(self._runs, key, metrics=self._fresh(key, points))

    def furthest(self, key: str) -> int:
        """Return the last update that any attempt at a run has told of."""
        return max((step for _, step in self._known_points(key)), default=0)

    def add_redone(self, key: str, updates: int) -> None:
        """Count updates of a run that were lost with an attempt and are done again."""
        known = self._runs[key]
        before = known.tags.get(REDONE, "")
        redone = (int(before) if before.isdigit() else 0) + updates
        self._write(self._runs, key, tags={REDONE: str(redone)})

    def commit(self, key: str, attempt: Attempt) -> StoredRun:
        """Publish what an attempt left.

        Raises:
            StaleAttemptError: if the run was handed to a newer attempt in the meantime.
            DamagedResultError: if the artifacts do not match their manifest.
        """
        self._require_current(key, attempt)
        self._folders.bring(attempt)
        result = self._folders.result(attempt.artifacts, key)
        if result is None:
            raise DamagedResultError(f"the result of run {key} does not match its manifest")
        self._publish(key, attempt)
        return self._record(key, result)

    def fail(self, key: str, attempt: Attempt, failure: Failure) -> None:
        """Record why an attempt failed; its log becomes an artifact.

        Raises:
            StaleAttemptError: if the run was handed to a newer attempt in the meantime.
        """
        self._require_current(key, attempt)
        self._folders.keep_log(attempt, self._published(key), failure.traceback)
        tags = {
            FAILURE: failure.kind,
            MESSAGE: failure.message[:LONGEST_TAG],
            SITE: failure.site[:LONGEST_TAG],
        }
        self._write(self._runs, key, tags=tags, status="FAILED")
        self._folders.remove(attempt.artifacts)

    def reconcile(self) -> dict[str, str]:
        """Bring database and folders together after a kill; return what was done, by key."""
        self._remove_doubles()
        done = dict.fromkeys(self._adopt_unknown(), "found again")
        for key, run in list(self._runs.items()):
            if run.status == "FINISHED" and (self._published(key) / RESULT_FILE).is_file():
                self._folders.tidy(key)
                continue
            attempt = self._attempt(key)
            published = self._folders.result(self._published(key), key)
            if published is None and self._folders.result(attempt.artifacts, key) is not None:
                self._publish(key, attempt)
                published = self._folders.result(self._published(key), key)
            if published is not None:
                self._record(key, published)
                done[key] = "published"
            elif run.status in ("RUNNING", "FINISHED"):
                self._write(self._runs, key, status="KILLED")
                done[key] = "interrupted" if run.status == "RUNNING" else "its artifacts are gone"
        for above in (self._parents, self._groups):
            for name, parent in list(above.items()):
                if parent.status == "RUNNING":
                    self._write(above, name, status="KILLED")
        return done

    def settle(self) -> list[str]:
        """Bring MLflow back to what this driver stored and the folders hold, whatever people did there.

        Returns:
            the keys of runs that are stored no more: deleted for good with their artifacts.
        """
        from orchestrator.store.tracking import client as tracking

        self._book.experiment, _ = tracking.our_experiment(self._client, self.home, self._tell)
        self._bring_back(tracking.every_run(self.home, self._client, self._book.experiment))
        lost = [
            key
            for key, run in self._runs.items()
            if run.status == "FINISHED" and not self.is_whole(key)
        ]
        for key in lost:
            self._write(self._runs, key, status="KILLED")
        return lost

    def is_whole(self, key: str) -> bool:
        """Whether a finished run is still there to be read."""
        return (self.folder_of(key) / RESULT_FILE).is_file()

    def folder_of(self, key: str) -> Path:
        """Return where the artifacts of a run lie now."""
        return self._published(key)

    def _keep(self, run: Known) -> None:
        """Keep a run under its name; one whose tags somebody spoilt has none, and is left alone."""
        kind, tags = run.tags.get(KIND), run.tags
        if kind == "run" and KEY in tags:
            self._keep_run(run)
        elif kind == "sweep" and SWEEP in tags:
            self._parents[tags.get(SWEEP_KEY, tags[SWEEP])] = run
        elif kind == "summary" and SUMMARY in tags:
            self._summaries[tags[SUMMARY]] = run
        elif kind == "group" and GROUP in tags:
            self._groups[tags[GROUP]] = run

    def _keep_run(self, run: Known) -> None:
        """Keep the run of a key: of two, the finished one, else the newer."""
        first = self._runs.setdefault(run.tags[KEY], run)
        if first is not run:
            better = run if run.status == "FINISHED" != first.status else first
            self._twice.append(first if better is run else run)
            self._runs[run.tags[KEY]] = better

    def _remove_doubles(self) -> None:
        """Delete what a server made twice, having been asked again because its answer was lost."""
        for run in self._twice:
            self._book.delete(run)
        self._twice.clear()

    def _bring_back(self, found: Runs) -> None:
        kept = (self._parents, self._groups, self._runs, self._summaries)
        bring_back(found, kept, self._book, self._tell)
        while self._without_values:
            key = self._without_values.pop()
            if self.is_whole(key):
                folder = self.folder_of(key)
                self._log_params(
                    key, json.loads((folder / "spec.json").read_text(encoding="utf-8"))
                )
                self._record(key, Result.read(folder))

    def _replaced(self, before: Known, now: Known) -> None:
        """Let all that belonged to a run belong to the one that was made in its place."""
        folder = self._artifacts_of(before.run_id)
        if self._folders.has(folder):
            self._folders.move(folder, self._artifacts_of(now.run_id))
        self._logged.pop(before.tags.get(KEY, before.tags.get(GROUP, "")), None)
        if before.status == "FINISHED" and KEY in before.tags:
            self._without_values.add(before.tags[KEY])
        for where in (self._groups, self._runs, self._summaries):
            for name, known in list(where.items()):
                if known.tags.get(PARENT) == before.run_id:
                    self._write(where, name, tags={PARENT: now.run_id})

    def _log_params(self, key: str, spec: Mapping[str, Any]) -> None:
        """Write the parameters of a run, unless a driver killed since has."""
        if not self._runs[key].has_params:
            self._write(self._runs, key, params=parameters(spec, self._start_of(spec)))
            self._runs[key] = self._book.note_dataset(self._runs[key], dataset_input(spec))

    def _start_of(self, spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the spec of the pretraining that a run starts from; None if there is none to be read."""
        start = (spec.get("pretrained") or {}).get("key")
        if start not in self._runs:
            return None
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(
                (self._published(start) / "spec.json").read_text(encoding="utf-8")
            )
            return found
        return None

    def _numbers_used(self, key: str, known: Known | None) -> Iterator[int]:
        """Yield the numbers of attempts there were, also of those a lost database knew."""
        if known is not None:
            yield number_of(known)
        yield from self._folders.numbers(key)

    def _require_current(self, key: str, attempt: Attempt) -> None:
        if attempt.number != number_of(self._runs[key]):
            raise StaleAttemptError(
                f"attempt {attempt.number} at run {key} is not the current one"
            )

    def _attempt(self, key: str) -> Attempt:
        known = self._runs[key]
        return self._folders.attempt(key, number_of(known), known.run_id)

    def _published(self, key: str) -> Path:
        return self._artifacts_of(self._runs[key].run_id)

    def _publish(self, key: str, attempt: Attempt) -> None:
        """Move an attempt's folder to where MLflow looks; atomic, and safe to be cut short."""
        known = self._runs[key]
        above = known.tags.get(PARENT)
        content = {
            "name": known.name,
            "labels": {k: v for k, v in known.tags.items() if k.startswith("hdsweep.")},
            **self._sweep_of(above),
            "group": next((n for n, g in self._groups.items() if g.run_id == above), None),
            "started_ms": known.started_ms,
        }
        self._folders.publish(attempt, self._published(key), content)

    def _record(self, key: str, result: Result) -> StoredRun:
        """Write the metrics and the status of a published result; safe to be done again."""
        # The same whoever records it and when, so that nothing recorded twice is there twice.
        ended_ms = int((self._published(key) / RESULT_FILE).stat().st_mtime * 1000)
        final = {**result.metrics, "seconds": result.seconds}
        step = result.updates
        points = [Point(name, step, value, ended_ms) for name, value in final.items()]
        history = sorted(result.history, key=lambda p: p.step)
        tags = prefixed(result.environment)
        last = result.last_values
        fresh = self._fresh(key, [*points, *history])
        self._write(
            self._runs,
            key,
            metrics=fresh,
            last=last,
            tags=tags,
            status="FINISHED",
            ended_ms=ended_ms,
        )
        self._logged.pop(key, None)
        self._folders.tidy(key)
        if self.home.mirror is not None:
            self.home.mirror.push_now_and_then()
        return self._stored(key)

    def _stored(self, key: str) -> StoredRun:
        known = self._runs[key]
        return StoredRun(
            key=key,
            run_id=known.run_id,
            artifacts=self._published(key),
            metrics=known.metrics,
            seconds=known.metrics.get("seconds", 0.0),
            tags=known.tags,
        )

    def _adopt_unknown(self) -> list[str]:
        """Record the published folders whose runs the database has lost; return their keys.

        Folders of runs that somebody deleted in the UI are left alone: they are not lost.
        """
        above = (*self._parents.values(), *self._summaries.values(), *self._groups.values())
        kept = [*self._runs.values(), *above]
        known = {run.run_id for run in kept} | self._deleted
        unknown = self._folders.unknown(known)
        self._adopt_sweeps(unknown)
        self._adopt_groups(unknown)
        # Pretrainings first: what starts from them shows their settings.
        in_order = sorted(unknown, key=starts_from_another)
        adopted = [key for folder in in_order if (key := self._adopt(folder)) is not None]
        self._adopt_tables(unknown)
        return adopted

    def _adopt(self, folder: Path) -> str | None:
        """Record a published folder as its run in MLflow; return the run's key, or None if the folder is not whole."""
        try:
            content = json.loads((folder / LABELS).read_text(encoding="utf-8"))
            spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
            key, name, sweep = str(content["labels"][KEY]), content["name"], content["sweep"]
        except (OSError, ValueError, KeyError):
            return None
        known = self._runs.get(key)
        result = self._folders.result(folder, key)
        if result is None or (known is not None and known.status == "FINISHED"):
            return None
        if known is None:
            labels = dict(content["labels"])
            if sweep is not None:
                named = content["sweep_name"], content.get("sweep_labels", {})
                labels[PARENT] = self._sweep_for(sweep, *named)
            elif content.get("group") in self._groups:
                labels[PARENT] = self._groups[content["group"]].run_id
            self._runs[key] = self._book.create(name, labels, content.get("started_ms"))
        self._log_params(key, spec)
        self._move_artifacts(folder, self._runs[key])
        self._record(key, result)
        return key

    def _fresh(self, key: str, points: Iterable[Point]) -> list[Metric]:
        """Return the points whose name and step were not logged before, and note them."""
        known = self._known_points(key)
        fresh: list[Metric] = []
        for point in points:
            if (point.name, point.step) not in known:
                known.add((point.name, point.step))
                fresh.append(metric(point.name, point.value, point.time_ms, point.step))
        return fresh

    def _known_points(self, key: str) -> set[tuple[str, int]]:
        """Return the logged names and steps of a run; read back once for one of another driver."""
        if key not in self._logged:
            self._logged[key] = self._book.history(self._runs[key])
        return self._logged[key]


@contextmanager
def rebuilt(home: Home, tracking_uri: str | None = None) -> Iterator[Store]:
    """Make the tracking database anew from the published artifacts, and open the store for writing.

    The old database, if there is one, is kept beside the new one.

    Args:
        tracking_uri: server that keeps the runs from now on, or `home`; where they are by default.

    Raises:
        InputError: if another driver is alive, or the server does not answer.
    """
    from orchestrator.store.tracking import client as tracking
    from orchestrator.store.tracking import server as tracking_server

    with locked(home):
        tracking_server.move(home, tracking_uri)
        tracking.set_aside(home)
        with Store._unlocked(home) as store:
            yield store


def _labels(run: PlannedRun) -> dict[str, str]:
    """Return what a run is called and belongs to, as tags."""
    spec = run.spec
    labels = {
        KIND: "run",
        KEY: run.key,
        "hdsweep.stage": spec.stage,
        "hdsweep.task": spec.task,
        "hdsweep.methods": ",".join(run.methods),
        "hdsweep.dataset": spec.dataset.name,
        "hdsweep.seed": str(run.seed),
        "hdsweep.generated": str(spec.dataset.generated).lower(),
        "hdsweep.random_backbone": str(spec.without_imagenet).lower(),
    }
    if run.source:
        labels["hdsweep.source"] = run.source
    if run.target:
        labels["hdsweep.target"] = run.target
    return labels
