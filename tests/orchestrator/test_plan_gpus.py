"""`hdsweep plan --gpus`: what is printed of a simulated sweep, its record, and its picture."""

from functools import partial
from xml.etree import ElementTree

import pytest
from PIL import Image

from orchestrator.plan.cost.forecast import H200, forecast
from orchestrator.plan.cost.simulate import Loss, simulate
from orchestrator.plan.plan import load_plan
from orchestrator.report.gantt import _stacked, gantt, write_gantt
from orchestrator.store.home.home import Home
from orchestrator.verbs.plan import AskedGpus, explain, simulated
from tests import command_line
from tests.documents import document

SMALL = ["plan", "table2", "--targets", "ph2", "--seeds", "0"]


@pytest.fixture(scope="module")
def paper():
    return forecast(load_plan("table2"), device=H200)


@pytest.fixture
def hdsweep(tmp_path):
    """Return a function that makes a call and returns its two outputs."""
    return partial(command_line.hdsweep, home=tmp_path / "home", COLUMNS="200")


def test_the_plan_names_makespan_bound_critical_path_and_cost(hdsweep):
    out, err = hdsweep("plan", "table2", "--gpus", 8)
    # The longest path is 33.2 h; 206 GPU-hours / (8 x 33.2 h) = 78 %.
    assert "on 8 GPUs of 80 GB, simulated: 33.2 h, 78% of their time in use" in out
    assert "1.00 times the bound of 33.2 h (the critical path)" in out
    assert "critical path: pretrain supervised celebamask_hq (33.1 h), then supervised_ledm" in out
    assert "206 GPU-hours of work, 265 with the GPUs held to the end" in out
    assert err == ""


def test_the_simulation_is_in_the_document_only_when_asked_for(hdsweep):
    asked = document(hdsweep(*SMALL, "--gpus", 2, "--json")[0])
    runs, last = asked["runs"], asked["simulation"]
    plain = document(hdsweep(*SMALL, "--json")[0])
    without = plain["runs"]
    assert plain["simulation"] is None
    assert [each["key"] for each in runs] == [each["key"] for each in without]
    assert last["gpus"] == 2
    assert last["planned"] == len(runs)
    assert last["makespan_seconds"] >= last["bound_seconds"]
    assert last["ratio_to_bound"] == pytest.approx(
        last["makespan_seconds"] / last["bound_seconds"], abs=1e-4
    )
    held = 2 * last["makespan_seconds"] / 3600
    assert last["gpu_hours_held"] == pytest.approx(held, abs=0.01)
    assert last["utilisation"] == pytest.approx(last["gpu_hours"] / held, abs=1e-3)


def test_at_demo_scale_gpus_are_forecast_as_gpus(tmp_path):
    plan = load_plan("table2", scale="demo")
    explained = explain(plan, Home(tmp_path / "home"), AskedGpus(1, 80))
    assert explained.forecast.device == H200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gantt", "a.svg"], "--gantt needs --gpus"),
        (["--gpu-gb", "40"], "--gpu-gb needs --gpus"),
        (["--gpus", "2", "--gantt", "a.pdf"], "must end in .svg or .png"),
        (["--gpus", "2", "--gantt", "no/such/a.svg"], "there is no folder no/such"),
    ],
)
def test_wrong_arguments_are_one_clear_line(hdsweep, arguments, message):
    out, err = hdsweep(*SMALL, *arguments, exit_code=2)
    assert out == ""
    assert err.startswith("error: ")
    assert message in err.splitlines()[0]


def test_the_picture_is_written_and_named(hdsweep, tmp_path):
    file = tmp_path / "gantt.svg"
    assert hdsweep(*SMALL, "--gpus", 2, "--gantt", file)[1].split() == [str(file)]
    text = "".join(ElementTree.parse(file).getroot().itertext())
    assert "hours; dotted: the least that any order could take" in text
    assert "hybrid isic2018" in text


def test_a_picture_has_a_bar_per_run_in_the_lane_of_its_gpu(paper):
    simulation = simulated(paper, AskedGpus(8, 80))
    axes = gantt(simulation).axes[0]
    boxes = [path.get_extents() for path in axes.collections[0].get_paths()]
    assert len(boxes) == len(simulation.intervals) == 180
    by_start = sorted(simulation.intervals, key=lambda each: each.start)
    assert [round(box.y0 + box.height / 2) for box in boxes] == [each.gpu for each in by_start]
    assert max(box.x1 for box in boxes) == pytest.approx(simulation.makespan / 3600)
    assert {text.get_text() for text in axes.texts} >= {"supervised celebamask_hq"}


def test_runs_at_once_lie_above_each_other(paper):
    # Two targets of one source with three seeds each, an eighth of a GPU each.
    ledm = [run for run in paper.plan.runs if run.label.startswith("hybrid_ledm")]
    runs = [run for run in ledm if run.needs == ledm[0].needs]
    bars = _stacked(simulate(runs, paper.seconds, gpus=1).intervals)
    assert sorted(bar.below for bar in bars) == pytest.approx([i / 8 for i in range(6)])


def test_many_gpus_have_thin_lanes_without_text(paper, tmp_path):
    simulation = simulated(paper, AskedGpus(500, 80))
    assert list(gantt(simulation).axes[0].texts) == []
    write_gantt(simulation, tmp_path / "many.png")
    assert Image.open(tmp_path / "many.png").height < 1600


def test_a_picture_shows_lost_attempts_and_nothing_at_all(paper):
    runs = [run for run in paper.plan.runs if run.pretraining][:2]
    lost = simulate(runs, paper.seconds, gpus=2, losses=[Loss(gpu=0, at=100, back=200)])
    assert len(gantt(lost).axes[0].collections[0].get_paths()) == 3
    assert len(gantt(simulate([], {}, gpus=2)).axes[0].collections[0].get_paths()) == 0
