"""What a sweep view makes of events: states, means, costs, and the time that is left."""

import pytest

from orchestrator.plan.plan import load_plan
from orchestrator.sweep.events import Event
from orchestrator.sweep.watch.progress import SweepView


@pytest.fixture(scope="module")
def plan():
    chosen = {"methods": "scratch_adm,hybrid_ft", "targets": "ph2,dermis"}
    return load_plan("table2", scale="smoke", **chosen)


@pytest.fixture
def runs(plan):
    return {run.label: run for run in plan.runs}


@pytest.fixture
def view(plan):
    # Every run is expected to take ten seconds.
    return SweepView(plan, {run.key: 10.0 for run in plan.runs}, started=100.0)


def event(kind, run, time, **details):
    return Event(kind=kind, run=run, time=time, **details)


def test_a_run_goes_from_waiting_over_running_to_finished(view, runs):
    run = runs["scratch_adm ph2-like seed 0"]
    cell = view.cell("scratch_adm", "ph2")
    assert [each.state for each in cell] == ["waiting"] * 3
    view.take(event("started", run, 100, attempt=1))
    view.take(event("progress", run, 104, attempt=1, fraction=0.4))
    assert [(each.run.label, each.fraction) for each in view.running] == [(run.label, 0.4)]
    view.take(event("finished", run, 110, attempt=1, metrics={"test_jaccard": 87.5}))
    assert [(each.state, each.score) for each in cell] == [
        ("finished", 87.5),
        ("waiting", None),
        ("waiting", None),
    ]


def test_a_retried_run_starts_over_and_keeps_what_it_cost(view, runs):
    run = runs["scratch_adm ph2-like seed 0"]
    view.take(event("started", run, 100, attempt=1))
    view.take(event("progress", run, 130, attempt=1, fraction=0.9))
    view.take(event("retrying", run, 140, attempt=1, message="worker lost"))
    assert view.counts["retrying"] == 1
    view.take(event("started", run, 150, attempt=2))
    (again,) = view.running
    assert (again.attempt, again.fraction) == (2, 0.0)
    # 40 s of the lost attempt and 20 s of this one, on one core: 60 / 3600 hours.
    assert view.cost_hours(170) == pytest.approx(60 / 3600)
    assert view.cost_unit == "CPU-hours"


def test_a_gpu_that_is_shared_costs_its_share(plan, runs):
    view = SweepView(plan, {}, gpu_gb=141.0, started=0.0)
    run = runs["scratch_adm ph2-like seed 0"]
    view.take(event("started", run, 0, attempt=1))
    # A tiny fine-tuning fits many times: the most that share one GPU are eight.
    assert view.cost_hours(3600) == pytest.approx(1 / 8)
    assert view.cost_unit == "GPU-hours"


def test_what_was_finished_before_costs_nothing(view, runs):
    run = runs["scratch_adm ph2-like seed 0"]
    view.take(event("reused", run, 100, seconds=900, metrics={"test_jaccard": 80.0}))
    assert view.reused == 1
    assert view.counts["finished"] == 1
    assert view.cost_hours(200) == 0
    assert view.cell("scratch_adm", "ph2")[0].score == 80.0


def test_nothing_is_said_about_the_end_before_the_beginning(view):
    assert view.seconds_left() is None


def test_time_left_is_the_rest_of_the_work_over_the_workers_seen(view, runs):
    labels = ["scratch_adm ph2-like seed 0", "scratch_adm ph2-like seed 1"]
    for label in labels:
        view.take(event("started", runs[label], 100, attempt=1))
    # 13 runs of 10 s, none of them done, on two workers.
    assert view.seconds_left() == pytest.approx(65)
    view.take(event("progress", runs[labels[0]], 105, fraction=0.5))
    assert view.seconds_left() == pytest.approx(62.5)


def test_time_left_learns_from_runs_of_the_same_kind(view, runs):
    first = runs["scratch_adm ph2-like seed 0"]
    view.take(event("started", first, 100, attempt=1))
    view.take(event("finished", first, 130, attempt=1))
    # It took 30 s instead of 10; 11 fine-tunings and, for want of better, 1 pretraining are left.
    assert view.seconds_left() == pytest.approx(12 * 30)


def test_no_number_of_workers_beats_the_longest_path(plan):
    seconds = {run.key: 100.0 if run.pretraining else 10.0 for run in plan.runs}
    view = SweepView(plan, seconds, started=0.0)
    for run in plan.runs:
        if run.needs is None:
            view.take(event("started", run, 0, attempt=1))
    # Seven at once share 220 s of work, but a fine-tuning waits for the pretraining.
    assert view.seconds_left() == pytest.approx(110)


def test_failed_and_blocked_runs_leave_nothing_to_wait_for(view, runs, plan):
    pretraining = next(run for run in plan.runs if run.pretraining)
    view.take(event("started", pretraining, 100, attempt=1))
    view.take(event("failed", pretraining, 110, message="diverged"))
    for run in plan.runs:
        if run.needs == pretraining.key:
            view.take(event("blocked", run, 110))
    # What is left are the six fine-tunings from scratch.
    assert view.seconds_left() == pytest.approx(60)
    assert view.counts == {"failed": 1, "blocked": 6, "waiting": 6}
