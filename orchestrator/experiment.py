"""The one Ray Tune experiment of a sweep.

Tune knows of no dependencies between trials, but it asks a search algorithm for the next one, and a
search algorithm may answer that there is nothing to start just now. Everything Tune learns is
passed to the sweep; nothing of Tune's own state is ever restored from.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import OutOfMemoryError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from orchestrator.failures import Kind
from orchestrator.forecast import resources
from orchestrator.nodes import Demand, kept_off
from orchestrator.stopping import StopFlag
from orchestrator.sweep import Sweep
from trainables.config import RunSpec
from trainables.tune_adapter import RunTrainable


class _OfThisProcess:
    """Leaves its attributes behind when Tune writes down how to restore the experiment.

    We never restore: the plan is made anew from the store. What the sweep holds (the database, the
    terminal) cannot be written down anyway.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Dependencies(_OfThisProcess, Searcher):  # type: ignore[misc]
    """Lets the sweep say what starts next."""

    def __init__(self, sweep: Sweep, tell: Callable[[], None]) -> None:
        super().__init__()
        self._sweep, self._tell = sweep, tell

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        self._tell()
        return str(self.FINISHED) if self._sweep.over else self._sweep.start_next(trial_id)

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        """Learn nothing here: `_Reporter` sees results and causes as a whole."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the store is the truth, and the plan is made anew from it."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class _Reporter(_OfThisProcess, tune.Callback):  # type: ignore[misc]
    """Passes what Tune sees on to the sweep."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:
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


def run_experiment(sweep: Sweep, name: str, stop: StopFlag, folder: Path) -> None:
    """Run a sweep to its end, or until it has drained; Tune's own files go into `folder`."""
    # Tune ends by listing every attempt that failed; the sweep tells which runs did in the end.
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
    gpu_gb = sweep.devices.gpu_gb

    def slots(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        needed = resources(RunSpec.model_validate(config["spec"]), gpu_gb=gpu_gb)
        off = kept_off(config["avoid"], needed)
        bundle = {"CPU": needed.cpus, "GPU": needed.gpus}
        selected = {"bundle_label_selector": [off]} if off else {}
        return tune.PlacementGroupFactory([bundle], **selected)

    demand = Demand()

    def tell() -> None:
        if sweep.joins_cluster:
            demand.tell(resources(spec, gpu_gb=gpu_gb) for spec in sweep.wanted())

    tuner = tune.Tuner(
        tune.with_resources(RunTrainable, slots),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=_Dependencies(sweep, tell),
            scheduler=_Drain(stop),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(folder),
            callbacks=[_Reporter(sweep)],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    try:
        tuner.fit()
    finally:
        demand.end()
