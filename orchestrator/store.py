"""The store of record, on MLflow: one MLflow run per run key, published exactly once.

The driver alone writes it. A worker fills the folder of its attempt; `commit` checks that folder
against its own manifest, moves it to where MLflow looks for artifacts, and only then writes the
metrics and the status. Killed between any two of these steps, the next driver finds either a whole
attempt to publish or a published folder to record, and `Store.open` does so before anything starts.

    parent run (a study at a scale) -> one child per run key, one summary per row and target
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mlflow.entities import Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from orchestrator.attempts import LABELS, RESULT, Attempt, read_result
from orchestrator.checking import flat
from orchestrator.errors import HdsweepError, InputError
from orchestrator.failures import Failure
from orchestrator.home import Home, locked
from orchestrator.plan import Plan, PlannedRun
from orchestrator.provenance import provenance
from trainables.loop import Point

EXPERIMENT = "hdsweep"
PAGE = 1000  # Runs per search.
BATCH = 1000  # MLflow's limit of metrics in one call.
LONGEST_TAG = 5000  # Characters, MLflow's limit.

KIND, KEY, ATTEMPT = "hdsweep.kind", "hdsweep.key", "hdsweep.attempt"
FAILURE, MESSAGE = "hdsweep.failure", "hdsweep.message"
SWEEP, SUMMARY = "hdsweep.sweep", "hdsweep.summary"
PARENT, NAME = "mlflow.parentRunId", "mlflow.runName"


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


class Store:
    """The tracking database and the artifacts of one home. Make it with `open` or `read`."""

    def __init__(self, home: Home, client: MlflowClient, experiment: str) -> None:
        self._home, self._client, self._experiment = home, client, experiment
        self._runs: dict[str, Run] = {}
        self._parents: dict[str, Run] = {}
        self._summaries: dict[str, Run] = {}
        self._logged: dict[str, set[tuple[str, int]]] = {}
        self._parent: Run | None = None
        self.reconciled: dict[str, str] = {}
        """What was done on opening about runs that a killed driver left, by key."""
        self._load()

    @classmethod
    @contextmanager
    def open(cls, home: Home) -> Iterator[Self]:
        """Open for writing, as the only driver, and complete what a killed one left.

        Raises:
            InputError: if another driver is alive, or the database is damaged.
        """
        with locked(home):
            client = _client(home)
            found = client.get_experiment_by_name(EXPERIMENT)
            # Before any worker starts: concurrent first writers of a fresh database race.
            experiment = (
                found.experiment_id
                if found
                else client.create_experiment(
                    EXPERIMENT, artifact_location=home.artifacts.as_uri()
                )
            )
            home.database.chmod(0o600)
            store = cls(home, client, experiment)
            store.reconciled = store.reconcile()
            yield store

    @classmethod
    def read(cls, home: Home) -> Self | None:
        """Open for reading beside a driver that may be alive; None if nothing was ever stored."""
        if not home.exists():
            return None
        client = _client(home)
        found = client.get_experiment_by_name(EXPERIMENT)
        return cls(home, client, found.experiment_id) if found else None

    def finished(self) -> dict[str, StoredRun]:
        """Return the finished runs by key."""
        return {key: self._stored(run) for key, run in self._runs.items() if _has(run, "FINISHED")}

    def failures(self) -> dict[str, Failure]:
        """Return the last failure of each run that is not finished and has one."""
        return {
            key: Failure(
                kind=run.data.tags[FAILURE],
                message=run.data.tags.get(MESSAGE, ""),
                attempt=int(run.data.tags[ATTEMPT]),
            )
            for key, run in self._runs.items()
            if _has(run, "FAILED") and FAILURE in run.data.tags
        }

    def running(self) -> dict[str, int]:
        """Return the attempt number of each run that is marked as running, by key."""
        return {
            key: int(run.data.tags[ATTEMPT])
            for key, run in self._runs.items()
            if _has(run, "RUNNING")
        }

    def specs(self) -> dict[str, dict[str, Any]]:
        """Return the specs of the finished runs by key, as they were stored."""
        return {
            key: json.loads((stored.artifacts / "spec.json").read_text())
            for key, stored in self.finished().items()
            if (stored.artifacts / "spec.json").is_file()
        }

    def begin_sweep(self, plan: Plan) -> str:
        """Return the MLflow run of this study at this scale, made if there is none yet."""
        name = f"{plan.study}/{plan.scale}"
        if name not in self._parents:
            tags = {KIND: "sweep", SWEEP: name, **_prefixed(provenance())}
            self._parents[name] = self._create(f"{plan.title} ({plan.scale})", tags)
        self._parent = self._parents[name]
        run_id = self._parent.info.run_id
        for label, text in _labels_of_plan(plan).items():
            self._client.set_tag(run_id, label, text[:LONGEST_TAG])
        return str(run_id)

    def start(self, run: PlannedRun) -> Attempt:
        """Record a new attempt at a run, durably, and return where its worker is to write."""
        known = self._runs.get(run.key)
        if known is None:
            labels = {**_labels(run), ATTEMPT: "1"}
            if self._parent is not None:
                labels[PARENT] = self._parent.info.run_id
            known = self._create(run.label, labels)
            self._log_params(known.info.run_id, run.spec.model_dump(mode="json"))
        else:
            number = int(known.data.tags[ATTEMPT]) + 1
            self._client.set_tag(known.info.run_id, ATTEMPT, str(number))
            self._client.update_run(known.info.run_id, status="RUNNING")
            known = self._client.get_run(known.info.run_id)
        self._runs[run.key] = known
        attempt = self._attempt(run.key, known)
        for folder in (attempt.artifacts, attempt.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        return attempt

    def log_points(self, key: str, points: Iterable[Point]) -> None:
        """Log values of a running run; each name and step once, whatever the attempt."""
        known = self._known_points(key)
        fresh = [point for point in points if (point.name, point.step) not in known]
        known.update((point.name, point.step) for point in fresh)
        metrics = [Metric(p.name, p.value, p.time_ms, p.step) for p in fresh]
        for start in range(0, len(metrics), BATCH):
            batch = metrics[start : start + BATCH]
            self._client.log_batch(self._runs[key].info.run_id, metrics=batch)

    def commit(self, key: str, attempt: Attempt) -> StoredRun:
        """Publish what an attempt left.

        Raises:
            StaleAttemptError: if the run was handed to a newer attempt in the meantime.
            DamagedResultError: if the artifacts do not match their manifest.
        """
        if attempt.number != int(self._runs[key].data.tags[ATTEMPT]):
            raise StaleAttemptError(
                f"attempt {attempt.number} at run {key} is not the current one"
            )
        result = read_result(attempt.artifacts, key)
        if result is None:
            raise DamagedResultError(f"the result of run {key} does not match its manifest")
        self._publish(key, attempt)
        return self._record(key, result)

    def fail(self, key: str, attempt: Attempt, failure: Failure) -> None:
        """Record why an attempt failed."""
        run_id = self._runs[key].info.run_id
        tags = {FAILURE: failure.kind, MESSAGE: failure.message[:LONGEST_TAG]}
        self._client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        self._client.set_terminated(run_id, status="FAILED")
        self._runs[key] = self._client.get_run(run_id)
        if failure.traceback:
            with attempt.log.open("a") as log:
                log.write(f"\n{failure.traceback}\n")
        shutil.rmtree(attempt.artifacts, ignore_errors=True)

    def reconcile(self) -> dict[str, str]:
        """Bring database and folders together after a kill; return what was done, by key."""
        done: dict[str, str] = {}
        for key, run in list(self._runs.items()):
            if _has(run, "FINISHED"):
                self._tidy(key)
                continue
            attempt = self._attempt(key, run)
            published = read_result(self._published(run), key)
            if published is None and read_result(attempt.artifacts, key) is not None:
                self._publish(key, attempt)
                published = read_result(self._published(run), key)
            if published is not None:
                self._record(key, published)
                done[key] = "published"
            elif _has(run, "RUNNING"):
                self._client.set_terminated(run.info.run_id, status="KILLED")
                self._runs[key] = self._client.get_run(run.info.run_id)
                done[key] = "interrupted"
        return done

    def write_table(
        self, files: Callable[[Path], object], rows: Sequence[Mapping[str, Any]]
    ) -> Path:
        """Store the table of the current sweep: its files, MLflow's own table, and the summaries.

        Args:
            files: writes the files into the folder it is given.
            rows: one record per cell, as in the JSON report.
        """
        assert self._parent is not None, "a table belongs to a sweep"
        root = self._published(self._parent)
        folder = root / "table"
        folder.mkdir(parents=True, exist_ok=True)
        files(folder)
        columns = ["method", "target", "metric", "mean", "std", "n"]
        content = {"columns": columns, "data": [[row[c] for c in columns] for row in rows]}
        (root / "cells.json").write_text(json.dumps(content))
        listed = json.dumps([{"path": "cells.json", "type": "table"}])
        self._client.set_tag(self._parent.info.run_id, "mlflow.loggedArtifacts", listed)
        for row in rows:
            self._summarise(row)
        return folder

    def end_sweep(self, *, complete: bool) -> None:
        """Mark the sweep as finished, or as interrupted with runs left to do."""
        assert self._parent is not None, "no sweep was begun"
        self._client.set_terminated(
            self._parent.info.run_id, status="FINISHED" if complete else "FAILED"
        )

    def adopt(self, folder: Path) -> bool:
        """Record a published folder whose run the database has lost; return whether it is whole."""
        try:
            content = json.loads((folder / LABELS).read_text())
            key, name, sweep = content["labels"][KEY], content["name"], content["sweep"]
        except (OSError, ValueError, KeyError):
            return False
        result = read_result(folder, key)
        if result is None or key in self._runs:
            return False
        labels = dict(content["labels"])
        if sweep is not None:
            if sweep not in self._parents:
                self._parents[sweep] = self._create(sweep, {KIND: "sweep", SWEEP: sweep})
            labels[PARENT] = self._parents[sweep].info.run_id
        run = self._runs[key] = self._create(name, labels)
        self._log_params(run.info.run_id, json.loads((folder / "spec.json").read_text()))
        self._published(run).parent.mkdir(parents=True, exist_ok=True)
        folder.rename(self._published(run))
        self._record(key, result)
        return True

    def _load(self) -> None:
        token = None
        while True:
            page = self._client.search_runs([self._experiment], max_results=PAGE, page_token=token)
            for run in page:
                tags = run.data.tags
                if tags.get(KIND) == "run":
                    self._runs[tags[KEY]] = run
                elif tags.get(KIND) == "sweep":
                    self._parents[tags[SWEEP]] = run
                elif tags.get(KIND) == "summary":
                    self._summaries[tags[SUMMARY]] = run
            token = page.token
            if not token:
                return

    def _create(self, name: str, tags: Mapping[str, str]) -> Run:
        return self._client.create_run(self._experiment, run_name=name, tags=dict(tags))

    def _log_params(self, run_id: str, spec: Mapping[str, Any]) -> None:
        params = [Param(name, str(value)) for name, value in flat(spec).items()]
        self._client.log_batch(run_id, params=params)

    def _attempt(self, key: str, run: Run) -> Attempt:
        number = int(run.data.tags[ATTEMPT])
        return Attempt(
            key=key,
            number=number,
            run_id=run.info.run_id,
            artifacts=self._home.attempts / key / str(number),
            checkpoints=self._home.checkpoints / key,
            log=self._home.logs / f"{key}-{number}.log",
        )

    def _published(self, run: Run) -> Path:
        run_id: str = run.info.run_id
        return self._home.artifacts / run_id / "artifacts"

    def _publish(self, key: str, attempt: Attempt) -> None:
        """Move an attempt's folder to where MLflow looks; atomic, and safe to be cut short."""
        run = self._runs[key]
        labels = {k: v for k, v in run.data.tags.items() if k.startswith("hdsweep.")}
        parent = run.data.tags.get(PARENT)
        sweep = next((n for n, p in self._parents.items() if p.info.run_id == parent), None)
        content = {"name": run.info.run_name, "labels": labels, "sweep": sweep}
        (attempt.artifacts / LABELS).write_text(json.dumps(content, indent=1))
        destination = self._published(run)
        shutil.rmtree(destination, ignore_errors=True)
        destination.parent.mkdir(parents=True, exist_ok=True)
        attempt.artifacts.rename(destination)

    def _record(self, key: str, result: Mapping[str, Any]) -> StoredRun:
        """Write the metrics and the status of a published result; safe to be done again."""
        run_id = self._runs[key].info.run_id
        now = time.time_ns() // 1_000_000
        final = {**result["metrics"], "seconds": result["seconds"]}
        step = result["updates"]
        self.log_points(key, [Point(*row) for row in result["history"]])
        self.log_points(key, [Point(name, step, value, now) for name, value in final.items()])
        tags = {**_prefixed(result["environment"]), **_prefixed(provenance())}
        self._client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        self._client.set_terminated(run_id)
        self._runs[key] = self._client.get_run(run_id)
        self._logged.pop(key, None)
        self._tidy(key)
        return self._stored(self._runs[key])

    def _tidy(self, key: str) -> None:
        """Remove what only an unfinished run needs."""
        for folder in (self._home.checkpoints / key, self._home.attempts / key):
            if folder.exists():
                shutil.rmtree(folder, ignore_errors=True)

    def _stored(self, run: Run) -> StoredRun:
        metrics = dict(run.data.metrics)
        return StoredRun(
            key=run.data.tags[KEY],
            run_id=run.info.run_id,
            artifacts=self._published(run),
            metrics=metrics,
            seconds=metrics.get("seconds", 0.0),
            tags=run.data.tags,
        )

    def _known_points(self, key: str) -> set[tuple[str, int]]:
        """Return the logged names and steps of a run; read back once for one of another driver."""
        if key not in self._logged:
            run = self._runs[key]
            self._logged[key] = {
                (name, metric.step)
                for name in run.data.metrics
                for metric in self._client.get_metric_history(run.info.run_id, name)
            }
        return self._logged[key]

    def _summarise(self, row: Mapping[str, Any]) -> None:
        """Keep one MLflow run per row and target of the table, so that the UI can compare them."""
        assert self._parent is not None
        parent = self._parent.info.run_id
        cell = f"{row['method']}/{row['target']}"
        name = f"{self._parent.data.tags[SWEEP]}/{cell}"
        values = {k: float(row[k]) for k in ("mean", "std", "n") if row[k] is not None}
        known = self._summaries.get(name)
        if known is None:
            tags = {KIND: "summary", SUMMARY: name, PARENT: parent}
            tags |= {f"hdsweep.{k}": str(row[k]) for k in ("method", "target", "metric")}
            known = self._create(f"{cell} (mean)", tags)
        if values == dict(known.data.metrics):
            return
        now = time.time_ns() // 1_000_000
        metrics = [Metric(k, v, now, int(row["n"])) for k, v in values.items()]
        self._client.log_batch(known.info.run_id, metrics=metrics)
        self._client.set_terminated(known.info.run_id)
        self._summaries[name] = self._client.get_run(known.info.run_id)


def rebuild(home: Home) -> int:
    """Make the tracking database anew from the published artifacts; return how many runs it has.

    The damaged database, if there is one, is kept beside the new one.
    """
    if home.database.exists():
        home.database.rename(home.database.with_suffix(f".damaged-{time.time_ns()}"))
    folders = sorted(path.parent for path in home.artifacts.glob(f"*/artifacts/{RESULT}"))
    with Store.open(home) as store:
        return sum(store.adopt(folder) for folder in folders)


def _client(home: Home) -> MlflowClient:
    """Return a client of the home's database.

    Raises:
        InputError: if it is not a database that MLflow can read.
    """
    import logging

    # Creating the tables is announced line by line otherwise.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        client = MlflowClient(tracking_uri=f"sqlite:///{home.database}")
        client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise _unreadable(home, error) from error
    except Exception as error:
        # SQLAlchemy's errors, without importing it here for their names.
        if type(error).__module__.startswith("sqlalchemy"):
            raise _unreadable(home, error) from error
        raise
    return client


def _unreadable(home: Home, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0]
    return InputError(
        f"the tracking database `{home.database}` cannot be read: {reason}",
        hint="`hdsweep reconcile --rebuild` makes it anew from the stored artifacts",
    )


def _has(run: Run, status: str) -> bool:
    return bool(run.info.status == RunStatus.to_string(RunStatus.from_string(status)))


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


def _labels_of_plan(plan: Plan) -> dict[str, str]:
    labels = {
        "hdsweep.generated": str(plan.generated).lower(),
        "hdsweep.planned": str(len(plan.runs)),
        "hdsweep.comparable": str(plan.comparable).lower(),
    }
    if plan.generated:
        labels["mlflow.note.content"] = "Generated data: nothing here is a result on real images."
    return labels


def _prefixed(values: Mapping[str, object]) -> dict[str, str]:
    return {f"hdsweep.{name}": str(value)[:LONGEST_TAG] for name, value in values.items()}
