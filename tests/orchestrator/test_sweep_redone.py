"""What was lost with a worker or a driver and done again is counted, and the report says so."""

import shutil

import pytest

from orchestrator.cluster.hardware import Devices
from orchestrator.plan.plan import load_plan
from orchestrator.store.home.home import open_home
from orchestrator.store.store import REDONE, Store
from orchestrator.sweep.options import Options
from orchestrator.sweep.sweep import Sweep
from orchestrator.verbs.run import ready_plan
from tests.stored_runs import committed, fill


@pytest.fixture
def home(tmp_path):
    return open_home(tmp_path / "home")


@pytest.fixture
def plan(home):
    def make():
        asked = {"methods": "scratch_adm", "targets": "ph2", "seeds": "0"}
        return load_plan("table2", scale="smoke", home=home.path, **asked)

    return ready_plan(make, home, lambda _: None)


def driver(plan, store, **asked):
    store.begin_sweep(plan)
    return Sweep(
        plan.runs,
        store,
        {run.key: 1.0 for run in plan.runs},
        options=Options(devices=Devices(1, None), **asked),
        on_event=lambda _: None,
        stop=store.stop_flag(),
    )


def report(sweep, trial, *, resumed_at, update):
    sweep.reported(
        trial,
        {
            "points": [["loss", update, 0.5, 0]],
            "finished": False,
            "fraction": update / 100,
            "resumed_at": resumed_at,
            "update": update,
        },
    )


def begin(sweep, trial):
    assert sweep.start_next(trial) is not None
    sweep.started(trial)


def test_updates_between_the_last_report_and_the_checkpoint_are_counted_once(home, plan):
    with Store.open(home) as store:
        sweep = driver(plan, store)
        begin(sweep, "first")
        report(sweep, "first", resumed_at=0, update=5)
        report(sweep, "first", resumed_at=0, update=10)
        assert sweep.result.updates_redone == 0
        sweep.lost("first", "killed", "worker_lost")
        begin(sweep, "second")
        report(sweep, "second", resumed_at=4, update=6)
        report(sweep, "second", resumed_at=4, update=20)
        assert sweep.result.updates_redone == 6
    # The next driver knows only what the first one stored.
    with Store.open(home) as store:
        sweep = driver(plan, store)
        begin(sweep, "third")
        report(sweep, "third", resumed_at=17, update=18)
        assert sweep.result.updates_redone == 3
        (key,) = (run.key for run in plan.runs)
        assert store._runs[key].tags[REDONE] == "9"


def test_only_preemptions_are_tried_again_without_end(home, plan):
    for kind, attempts in (("preempted", 6), ("worker_lost", 1), ("error", 1)):
        with Store.open(home) as store:
            sweep = driver(plan, store, retries=0)
            for number in range(attempts):
                begin(sweep, f"{kind} {number}")
                sweep.lost(f"{kind} {number}", "gone", kind)
            # Six times without a word, and as often again if it must be.
            assert bool(sweep.result.failed) == (kind != "preempted")


def test_a_run_that_goes_on_where_it_was_heard_of_last_loses_nothing(home, plan):
    with Store.open(home) as store:
        sweep = driver(plan, store)
        begin(sweep, "first")
        report(sweep, "first", resumed_at=0, update=10)
        sweep.lost("first", "preempted", "preempted")
        begin(sweep, "second")
        report(sweep, "second", resumed_at=12, update=14)  # Its last result was never delivered.
        assert sweep.result.updates_redone == 0
        (key,) = (run.key for run in plan.runs)
        assert REDONE not in store._runs[key].tags


@pytest.mark.parametrize("before", [True, False])
def test_a_pretraining_whose_artifacts_somebody_removed_is_trained_again(home, before):
    plan = ready_plan(
        lambda: load_plan(
            "table2", scale="smoke", home=home.path, methods="hybrid_ft", targets="ph2", seeds="0"
        ),
        home,
        lambda _: None,
    )
    pretraining, fine_tuning = plan.runs
    if before:  # By an earlier driver.
        committed(home, plan, pretraining)
    with Store.open(home) as store:
        sweep = driver(plan, store)
        if not before:
            finish(sweep, "first", store, pretraining)
        shutil.rmtree(store.folder_of(pretraining.key))
        finish(sweep, "second", store, pretraining)
        finish(sweep, "third", store, fine_tuning)
        assert sweep.over
        assert (sweep.result.reused, sweep.result.finished) == (0, 2)
        assert store.finished().keys() == {run.key for run in plan.runs}


def finish(sweep, trial, store, run):
    """Let a worker take the next run, which is to be that one, and finish it."""
    begin(sweep, trial)
    attempt = store._attempt(run.key)
    fill(attempt)
    sweep.reported(trial, {"points": [], "finished": True, "resumed_at": 0, "update": 2})
