"""A search as people see it while it goes on."""

import contextlib
import io
import os
import pty
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from orchestrator.sweep.events import Event
from orchestrator.tuning.live import Rung, SearchView, open_search_display, watched_search
from orchestrator.tuning.search import make_search

LAMBDA = optuna.distributions.FloatDistribution(1e-5, 1.0, log=True)


@pytest.fixture
def search(tmp_path):
    told = {"study": "table2", "home": tmp_path, "scale": "demo", "targets": "ph2"}
    return make_search("lambda", trials=5, **told)


def trial(mask_weight, state, *values):
    steps = dict(zip((1, 3, 9), values, strict=False))
    ended = {"value": values[-1]} if state is TrialState.COMPLETE else {}
    return create_trial(
        state=state,
        params={"lambda": mask_weight},
        distributions={"lambda": LAMBDA},
        intermediate_values=steps,
        **ended,
    )


@pytest.fixture
def trials():
    return [
        trial(1e-4, TrialState.COMPLETE, 80.0, 82.0, 84.0),
        trial(1e-1, TrialState.PRUNED, 89.0),  # Stopped: no best of the whole budget.
        trial(1e-2, TrialState.PRUNED, 81.0, 81.5),
        trial(1e-3, TrialState.RUNNING, 80.5),
    ]


def test_the_rungs_say_who_came_there_and_who_went_no_further(search, trials):
    short, middle, whole = search.budgets
    assert SearchView(search, trials).rungs == (
        Rung(short, (80.0, 89.0, 81.0, 80.5), stopped=1),
        Rung(middle, (82.0, 81.5), stopped=1),
        Rung(whole, (84.0,), stopped=0),
    )


def test_the_standing_counts_trials_and_reckons_from_those_of_this_session(search, trials):
    view = SearchView(search, trials[:1], started=100.0)
    assert view.standing(160.0) == "1 of 5, best so far 84.00 % at lambda 0.0001"
    view.take(trials)
    # Two of this session in 60 s, two are left.
    assert view.standing(160.0).endswith(", about 1.0 min left")


def test_what_runs_is_named_until_it_ends(search):
    view = SearchView(search, [])
    run, _ = search.runs({"lambda": 1e-4}, 0)
    view.take_event(Event(kind="progress", run=run, time=0.0, fraction=0.5))
    assert any(f"{run.label} 50%" in line for line in view.lines(0.0))
    view.take_event(Event(kind="finished", run=run, time=0.0))
    assert not any(run.label in line for line in view.lines(0.0))


def shown(search, trials, kind, stream):
    stored = trials[:1]
    view = SearchView(search, stored)
    with open_search_display(view, lambda: stored, kind, stream=stream) as (_, notice):
        notice("trial 0: 80.00 %, goes on")
        stored = trials
        notice("trial 2: stopped")


def test_without_a_terminal_a_line_for_each_trial_and_the_standing_once_one_ended(search, trials):
    stream = io.StringIO()
    shown(search, trials, "auto", stream)
    first, second = stream.getvalue().splitlines()
    assert first == "trial 0: 80.00 %, goes on"
    assert second.startswith("trial 2: stopped (3 of 5, best so far 84.00 % at lambda 0.0001")


def test_no_progress_prints_nothing(search, trials):
    stream = io.StringIO()
    shown(search, trials, "none", stream)
    assert not stream.getvalue()


def pieces(reader):
    """Yield what a terminal was sent, which comes a piece at a time, until its writer has gone."""
    with os.fdopen(reader, "rb", buffering=0) as terminal, contextlib.suppress(OSError):
        while piece := terminal.read(4096):
            yield piece.decode()


def test_on_a_terminal_the_rungs_are_drawn(search, trials, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        shown(search, trials, "auto", stream)
    drawn = "".join(pieces(reader))
    assert "updates  trials  stopped  best" in drawn
    assert f"{search.budgets[1]:>7}       2        1  82.00 %" in drawn
    assert "trial 2: stopped" in drawn


def ended(points):
    return [trial(10.0**-power, TrialState.COMPLETE, 80.0, 81.0, 82.0) for power in range(points)]


@pytest.mark.parametrize(
    ("changes", "stored", "planned"),
    [
        ({"trials": 5}, 4, 5),
        ({"trials": 2}, 4, 4),  # An earlier session asked for more.
        ({"trials": 500, "sampler": "grid"}, 0, None),  # As many as the grid has.
        ({"trials": 2, "sampler": "grid"}, 0, 2),
    ],
)
def test_what_is_planned_is_what_there_will_be(search, changes, stored, planned):
    made = replace(search, **changes)
    points = len(made.space.grid["lambda"])
    assert SearchView(made, ended(stored)).planned == (planned or points)


def test_others_are_told_of_a_search_by_its_trials(search, trials):
    told = watched_search(SearchView(search, trials))
    assert told.names == {"study": "table2", "scale": "demo", "search": search.name}
    assert told.count({"finished": 40}) == {"planned": 5, "complete": 1, "stopped": 2, "failed": 0}
