"""The live view, drawn into text: what it shows, and that it fits every terminal."""

import io

import pytest
from rich.console import Console

from orchestrator.plan.plan import load_plan
from orchestrator.sweep.events import Event
from orchestrator.sweep.watch.live_table import ASCII, render
from orchestrator.sweep.watch.progress import SweepView


@pytest.fixture(scope="module")
def plan():
    return load_plan("table2", scale="demo")


@pytest.fixture
def view(plan):
    """Return a sweep in its middle: a cell that is done, one that is not, and every state."""
    view = SweepView(plan, {run.key: 10.0 for run in plan.runs}, started=0.0)
    runs = {run.label: run for run in plan.runs}

    def tell(kind, label, **details):
        view.take(Event(kind=kind, run=runs[label], time=60.0, **details))

    tell("finished", "pretrain diffusion isic2018-like")
    tell("started", "pretrain hybrid shenzhen-like", attempt=1)
    tell("progress", "pretrain hybrid shenzhen-like", attempt=1, fraction=0.25)
    tell("failed", "pretrain supervised isic2018-like", message="diverged")
    for seed, score in enumerate((88.0, 88.3, 88.4)):
        tell("reused", f"scratch_adm ph2-like seed {seed}", metrics={"test_jaccard": score})
    tell("finished", "scratch_adm nih-like seed 1", metrics={"test_jaccard": 71.25})
    tell("started", "scratch_adm nih-like seed 0", attempt=3)
    tell("progress", "scratch_adm nih-like seed 0", attempt=3, fraction=0.5)
    tell("retrying", "i1k_deeplab ph2-like seed 0", message="worker lost")
    tell(
        "blocked",
        "supervised_ft ph2-like seed 0",
        message="pretrain supervised isic2018-like failed",
    )
    return view


def lines(view, width, height, **options):
    return render(view, now=90.0, width=width, height=height, **options).plain.split("\n")


def line_of(found, start):
    return next(line for line in found if line.startswith(start))


def test_cells_fill_as_seeds_finish(view):
    found = lines(view, 80, 24)
    row = line_of(found, "scratch_adm")
    # (88.0 + 88.3 + 88.4) / 3 = 88.23; one of three seeds on nih, another running.
    assert row.split("  ")[0] == "scratch_adm"
    assert "●●● 88.2" in row
    assert "◐●○ 71.2" in row
    assert line_of(found, "i1k_deeplab").split()[1] == "↻○○"
    assert line_of(found, "supervised_ft").split()[1] == "–○○"


def test_a_wide_terminal_shows_the_spread_too(view):
    # The sample standard deviation of 88.0, 88.3, 88.4 is 0.208.
    assert "●●● 88.2 ± 0.2" in line_of(lines(view, 200, 50), "scratch_adm")


def test_what_runs_is_shown_with_progress_time_and_attempt(view):
    found = lines(view, 80, 24)
    (row,) = [line for line in found if line.startswith("scratch_adm nih-like seed 0")]
    assert row.split()[-3:] == ["50%", "0:30", "↻3"]
    assert "━━━" in row


def test_pretrainings_are_a_table_of_task_and_source(view):
    found = lines(view, 80, 24)
    assert line_of(found, "pretraining").split() == [
        "pretraining",
        "isic2018-like",
        "shenzhen-like",
        "celebamask_hq-like",
    ]
    assert line_of(found, "hybrid ").split() == ["hybrid", "○", "◐", "25%", "○"]
    assert line_of(found, "supervised ").split() == ["supervised", "✗", "○", "○"]


def test_the_head_of_pretrainings_is_whole_where_their_names_are_short():
    small = load_plan("table2", scale="demo", methods="hybrid_ft", targets="ph2")
    view = SweepView(small, {run.key: 10.0 for run in small.runs}, started=0.0)
    found = lines(view, 80, 24)
    assert line_of(found, "pretraining").split() == ["pretraining", "isic2018-like"]
    assert line_of(found, "hybrid ").index("○") == line_of(found, "pretraining").index("isic")


def test_pretrainings_fold_into_one_line_once_all_are_done(view, plan):
    for run in plan.runs:
        if run.pretraining:
            view.take(Event(kind="finished", run=run, time=70.0))
    assert "pretraining 15 of 15" in lines(view, 80, 24)


def test_the_whole_is_counted_timed_and_priced(view):
    found = "\n".join(lines(view, 120, 40))
    assert "5/180" in found
    assert "3 reused" in found
    assert "2 running" in found
    assert "1 failed" in found
    assert "1 blocked" in found
    assert "1:30 elapsed" in found
    assert "left" in found
    # Two runs for 30 s each, on one core each: 60 / 3600.
    assert "0.0167 CPU-hours" in found


def test_generated_data_is_called_by_its_name(view):
    assert "GENERATED DATA" in lines(view, 80, 24)[0]


@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 119, 120, 121, 160, 200])
@pytest.mark.parametrize("height", [5, 10, 16, 23, 24, 40])
def test_it_never_outgrows_the_terminal(view, plan, width, height):
    for run in plan.runs[40:90]:  # More at once than there are lines for.
        view.take(Event(kind="started", run=run, time=60.0, attempt=1))
    found = lines(view, width, height)
    assert len(found) <= height
    assert max(len(line) for line in found) <= width
    assert any("/180" in line for line in found)


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_every_method_and_target_has_its_cell(view, plan, width):
    found = lines(view, width, 40)
    header = next(line for line in found if " ph2" in line)
    for method in plan.methods:
        row = line_of(found, method)[: len(header)]
        assert sum(row.count(mark) for mark in "●◐○↻✗–") >= 15
    assert all(target[:3] in header for target in plan.targets)


def test_many_seeds_are_counted_where_marks_have_no_room():
    seeds = {run.seed for run in load_plan("table2", scale="demo").runs if not run.pretraining}
    assert seeds == {0, 1, 2}
    narrow = load_plan("table2", scale="demo", methods="scratch_adm")
    view = SweepView(narrow, {}, started=0.0)
    view.take(Event(kind="finished", run=narrow.runs[0], time=1.0))
    # 31 columns: 11 for the name, so that four are left for each of five cells with their gap.
    assert line_of(lines(view, 31, 24), "scratch_adm ").split()[1] == "●○○"


def test_a_terminal_without_unicode_gets_ascii(view):
    found = "\n".join(lines(view, 120, 40, glyphs=ASCII))
    assert found.replace("·", "").isascii()


def test_without_colour_the_marks_still_differ(view):
    stream = io.StringIO()
    console = Console(file=stream, width=80, height=24, no_color=True, record=True)
    console.print(render(view, now=90.0, width=80, height=24))
    assert "\x1b" not in stream.getvalue()
    assert {"●", "◐", "○", "↻", "✗", "–"} <= set(stream.getvalue())
