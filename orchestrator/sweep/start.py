"""Starting a sweep: Ray for as long as it runs, the one experiment on it, and what came of it."""

import time
from collections.abc import Collection, Mapping, Sequence

from orchestrator.cluster.compilers import ways_to_compile
from orchestrator.cluster.preflight import require_alike
from orchestrator.cluster.session.session import ray_session
from orchestrator.plan.plan import Plan, PlannedRun
from orchestrator.process.stopping import StopFlag
from orchestrator.store.store import Store
from orchestrator.sweep.budget import Budget
from orchestrator.sweep.events import OnEvent
from orchestrator.sweep.options import Options
from orchestrator.sweep.outcome import SweepResult
from orchestrator.sweep.sweep import Sweep


def run_sweep(
    plan: Plan,
    store: Store,
    remaining: Mapping[str, float],
    *,
    options: Options,
    on_event: OnEvent,
    budget: Budget | None = None,
    stop: StopFlag,
) -> SweepResult:
    """Run what is missing of a plan and return what came of it.

    Args:
        plan: every dataset and weight file that it needs is there.
        store: open for writing.
        remaining: seconds of the longest path from each run, by key.
        options: where to run, how often to try, what to keep.
        on_event: told of every change, from this thread.
        budget: what may be spent; no limit by default.
        stop: set when somebody asks the sweep to stop.

    Raises:
        InputError: if the Ray cluster asked for is not there, or a node of it cannot take part.
    """
    started = time.monotonic()
    sweep = Sweep(
        plan.runs, store, remaining, options=options, on_event=on_event, stop=stop, budget=budget
    )
    if sweep.result.reused < sweep.result.planned:
        run_on_ray(
            sweep,
            store,
            plan.study,
            options=options,
            stop=stop,
            needed=datasets_of(plan.runs),
            compiled=ways_to_compile(run.spec for run in plan.runs),
        )
    return sweep.ended(started)


def run_on_ray(
    sweep: Sweep,
    store: Store,
    name: str,
    *,
    options: Options,
    stop: StopFlag,
    needed: Mapping[str, str],
    compiled: Collection[str] = (),
) -> None:
    """Start or join Ray, and run a sweep or a search on it.

    Args:
        name: of the experiment, as Ray's own views show it.
        needed: fingerprint of each dataset by the name of its folder, which every node of a cluster has to have.
        compiled: values of `compute.compile` of the runs, which it has to be able to.

    Raises:
        InputError: if the Ray cluster asked for is not there, or a node of it cannot take part.
    """
    with ray_session(options.address, workers=options.workers) as folder:
        # Imports Ray, whose environment the session sets first.
        from orchestrator.sweep.experiment import run_experiment

        if options.address != "local":
            require_alike(store.home.address, needed, compiled)
        run_experiment(sweep, name, stop, folder)


def datasets_of(runs: Sequence[PlannedRun]) -> dict[str, str]:
    """Return the fingerprint of each dataset by the name of its folder."""
    return {
        run.dataset_folder.name: run.spec.dataset.fingerprint
        for run in runs
        if run.dataset_folder is not None
    }
