"""The one Ray Tune experiment of a sweep.

Tune knows of no dependencies between trials, but it asks a search algorithm for the next one, and a
search algorithm may answer that there is nothing to start just now. Everything Tune learns is
passed to the sweep; nothing of Tune's own state is ever restored from.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import OutOfMemoryError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from orchestrator.cluster.nodes import Demand, kept_off
from orchestrator.cluster.session.alive import ending_with_ray, require_ray_alive
from orchestrator.plan.cost.forecast import Resources, resources
from orchestrator.process.stopping import StopFlag
from orchestrator.store.failures import Kind
from orchestrator.sweep.sweep import Sweep
from orchestrator.sweep.worker import proven_trainable, slots
from trainables.config import RunSpec

Needs = Callable[[RunSpec], Resources]


class _OfThisProcess:
    """An object of this process, of which Tune saves no attributes when it writes how to restore the experiment.

    We never restore: the plan is made anew from the store. What the sweep holds (the database, the
    terminal) cannot be written down anyway.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Dependencies(_OfThisProcess, Searcher):  # type: ignore[misc]
    """Lets the sweep say what starts next.

    As many at once as there is room for, each of which gets a worker of its own, and one more that waits for
    room and tells an autoscaler of it. A worker that is free takes the next run, and never one for which
    another worker is just starting: Tune would end that one, and runs shorter than such a start would
    all be done by the first worker there is.
    """

    def __init__(self, sweep: Sweep, needs: Needs) -> None:
        super().__init__()
        self._sweep, self._needs = sweep, needs
        self._on_gpus = sweep.devices.gpu_gb is not None
        self._demand = Demand()
        self._taken: dict[str, float] = {}
        """What the trials that have not ended need, by their id."""
        self._waiting: set[str] = set()
        """Those of them for which no worker runs yet."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._sweep.over:
            return str(self.FINISHED)
        if self._sweep.joins_cluster:
            self._demand.tell(map(self._needs, self._sweep.wanted()))
        if self._waiting and sum(self._taken.values()) >= self._room():
            return None
        config = self._sweep.start_next(trial_id)
        if config is not None:
            needed = self._needs(RunSpec.model_validate(config["spec"]))
            self._taken[trial_id] = needed.gpus if self._on_gpus else needed.cpus
            self._waiting.add(trial_id)
            bundle = {"CPU": needed.cpus, "GPU": needed.gpus}
            config["slots"] = [bundle, kept_off(config["avoid"], needed)]
        return config

    def started(self, trial_id: str) -> None:
        """Note that a trial has its worker."""
        self._waiting.discard(trial_id)

    def on_trial_complete(self, trial_id: str, *_: Any, **__: Any) -> None:
        """Note that there is room again; `_Reporter` sees results and causes as a whole."""
        self._waiting.discard(trial_id)
        self._taken.pop(trial_id, None)

    def _room(self) -> float:
        """Return the CPU slots or the GPUs of the nodes that are alive now."""
        return float(ray.cluster_resources().get("GPU" if self._on_gpus else "CPU", 0))

    def end(self) -> None:
        """Let an autoscaler take machines away."""
        self._demand.end()

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the store is the truth, and the plan is made anew from it."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class _Reporter(_OfThisProcess, tune.Callback):  # type: ignore[misc]
    """Passes what Tune sees on to the sweep."""

    def __init__(self, sweep: Sweep, dependencies: _Dependencies) -> None:
        self._sweep, self._dependencies = sweep, dependencies

    def on_step_begin(self, **_: Any) -> None:
        require_ray_alive()

    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:
        self._dependencies.started(trial.trial_id)
        self._sweep.started(trial.trial_id)

    def on_trial_result(self, *, trial: Trial, result: dict[str, Any], **_: Any) -> None:
        self._sweep.reported(trial.trial_id, result)

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:
        error = trial.get_error()
        self._sweep.lost(trial.trial_id, str(error or ""), _kind(error))


def _kind(error: Exception | None) -> Kind:
    """Return what became of a worker: Ray says so when a node was drained or reclaimed."""
    if isinstance(error, OutOfMemoryError):
        return "out_of_memory"
    return "preempted" if getattr(error, "preempted", False) else "worker_lost"


class _Drain(_OfThisProcess, FIFOScheduler):  # type: ignore[misc]
    """Stops each trial at its next result once somebody asked for it."""

    def __init__(self, stop: StopFlag) -> None:
        super().__init__()
        self._stop = stop

    def on_trial_result(self, *_: Any) -> str:
        return str(self.STOP if self._stop.draining else self.CONTINUE)

    def choose_trial_to_run(self, *_: Any) -> None:
        """Leave the order to Tune: whatever is chosen here would take the next free worker."""


def run_experiment(sweep: Sweep, name: str, stop: StopFlag, folder: Path) -> None:
    """Run a sweep to its end, or until it has drained; Tune's own files go into `folder`."""
    # Tune ends by listing every attempt that failed; the sweep tells which runs did in the end.
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
    gpu_gb, peaks = sweep.devices.gpu_gb, sweep.devices.peaks

    def needs(spec: RunSpec) -> Resources:
        return resources(spec, gpu_gb=gpu_gb, measured=peaks)

    dependencies = _Dependencies(sweep, needs)
    tuner = tune.Tuner(
        tune.with_resources(proven_trainable(), slots),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=dependencies,
            scheduler=_Drain(stop),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(folder),
            callbacks=[_Reporter(sweep, dependencies)],
            verbose=0,
            # Tune's own would need a folder that all nodes share; without one it ends the worker.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    try:
        with ending_with_ray():
            tuner.fit()
    finally:
        dependencies.end()
