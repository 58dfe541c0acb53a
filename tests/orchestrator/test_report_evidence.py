"""What a report shows beside the table: costs, origins, failures, claims, figures; from made-up runs."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from scipy import stats

from orchestrator.plan.plan import Cell, load_plan
from orchestrator.report import figures
from orchestrator.report.cells import make_table
from orchestrator.report.evidence import Done, Evidence
from orchestrator.report.statistics import critical_difference
from orchestrator.report.writers import page
from orchestrator.store.failures import Failure, Group
from trainables.history import Point
from trainables.result import Result

ROOT = Path(__file__).parents[2]
FACES = ("jaccard", "miou_ledm")
KWH = 3.6e6  # Joules.


@pytest.fixture(scope="module")
def paper():
    return load_plan("table2")


@pytest.fixture(scope="module")
def demo():
    return load_plan("table2", scale="demo")


def done(run, **changes):
    """Return a finished run."""
    told = {"seconds": 3600.0, "updates": 100, "attempts": 1, "updates_redone": 0, "joules": None}
    told |= {"environment": {"device": "cpu"}, "code": {}, "artifacts": Path("no")}
    return Done(run=run, **{**told, **changes})


def logging(folder, *points):
    """Return a folder of artifacts with a result that logged these names, updates and values."""
    history = tuple(Point(name, update, value, 0) for name, update, value in points)
    Result("key", {}, updates=1, seconds=1.0, history=history).write(folder)
    return folder


def of_method(plan, method, **changes):
    """Return all runs of a row as finished, by key."""
    return {run.key: done(run, **changes) for run in plan.runs if method in run.methods}


def table_of(plan, values):
    """Return a table with these values by method, the same on each target."""
    metrics = {}
    for method, numbers in values.items():
        for target in plan.targets:
            for seed, number in zip(plan.seeds, numbers, strict=True):
                scores = {f"test_{name}": number for name in FACES}
                metrics[plan.table[Cell(method, target, seed)]] = scores
    return make_table(plan, metrics)


def rendered(plan, evidence=None, values=None):
    table = table_of(plan, values or {})
    return page.render(table, evidence or Evidence(plan, {}), {})


def row_of(text, method, *, below):
    """Return the texts of a method's row in the table below a text."""
    rows = re.finditer(rf'<tr><th scope="row">{re.escape(method)}</th>(.*?)</tr>', text)
    row = next(each for each in rows if each.start() > text.index(below))
    return re.findall(r"<td>(.*?)</td>", row[1])


def test_costs_by_row_with_the_energy_that_drivers_told(paper):
    gpu = {"device": "NVIDIA H100"}
    runs = of_method(paper, "hybrid_ft", joules=KWH / 2, environment=gpu)
    runs |= of_method(paper, "scratch_adm", joules=KWH, environment=gpu)
    untold = next(run for run in paper.runs if run.methods == ("scratch_adm",))
    runs[untold.key] = done(untold, joules=None, environment=gpu)
    evidence = Evidence(paper, runs)
    text = rendered(paper, evidence)
    # Three pretrainings and 15 fine-tunings of an hour each, half a kilowatt-hour.
    wanted = ["3", "3.000", "300", "1.500", "15", "15.000", "1,500", "7.500"]
    assert row_of(text, "Hybrid, fine-tuning", below="By row; a pretraining") == wanted
    # Its LEDM row starts from the same three; one run of the row from scratch told nothing.
    assert row_of(text, "Hybrid, LEDM", below="By row; a pretraining")[:4] == wanted[:4]
    assert row_of(text, "ADM from scratch", below="By row; a pretraining")[-2:] == ["1,500", "–"]
    assert text.count('<th scope="col">GPU-hours</th>') == 2
    # What rows share counts once in the whole: 3 + 15 and 15 from scratch.
    assert evidence.whole_cost().runs == 33
    assert evidence.whole_cost().joules is None


def test_without_a_driver_that_tells_there_is_no_column_of_energy(paper):
    text = rendered(paper, Evidence(paper, of_method(paper, "scratch_adm")))
    assert "Energy: no driver told." in text
    assert ">kWh<" not in text
    assert len(row_of(text, "ADM from scratch", below="By row; a pretraining")) == 6


def test_updates_that_were_done_again_are_told(paper):
    runs = of_method(paper, "scratch_adm", attempts=2, updates_redone=10)
    text = rendered(paper, Evidence(paper, runs))
    assert "15 more attempts than runs: 150 updates were lost and done again" in text


def test_failures_are_grouped_by_cause_with_their_runs(paper):
    keys = tuple(run.key for run in paper.runs if "i1k_deeplab" in run.methods)[:14]
    failure = Failure("out_of_memory", "no <memory>", site="trainables/loop.py:3 in f")
    single = Group(Failure("diverged", "loss is not finite"), (paper.runs[0].key,))
    text = rendered(paper, Evidence(paper, {}, groups=(Group(failure, keys), single)))
    section = text.partition('<h2 id="failures">')[2]
    assert (
        "14 runs, the same failure</strong>: out of memory: no &lt;memory&gt;, at trai" in section
    )
    assert "<strong>1 run</strong>: diverged: loss is not finite" in section
    assert all(f"{paper.by_key[key].label} <code>{key}</code>" in section for key in keys)
    assert '<a href="#failures">15 failed</a>' in text


def test_how_it_was_made_has_code_changes_hardware_and_tuning(paper):
    code = {"hdsweep": "1.2", "commit": "c0ffee", "changes": "abc"}
    environment = {"torch": "2.14", "device": "cpu"}
    runs = of_method(paper, "scratch_adm", code=code, environment=environment)
    diffs = {"abc": f"-<old>\n{'+' * page.LONGEST_DIFF}", "def": "+new"}
    tuned = replace(paper, tuned=("hybrid rows use lambda = 0.1 from the search x (9 trials)",))
    text = rendered(tuned, Evidence(tuned, runs, diffs=diffs))
    for name, value in {**code, **environment}.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text
    assert "<pre>-&lt;old&gt;\n+" in text
    assert text.count("The rest is in the sweep's artifacts") == 1
    assert "<dt>tuning</dt><dd>hybrid rows use lambda = 0.1" in text
    assert "no row was tuned here" not in text
    assert "no row was tuned here" in rendered(paper)


def test_claims_are_greyed_out_on_generated_images_only(demo, paper):
    values = {"hybrid_ft": (90.0, 90.1, 90.2), "diffusion_ft": (80.0, 80.2, 80.1)}
    values["supervised_ft"] = (95.0, 95.2, 95.1)
    outcomes = r'<strong class="(holds|fails|undecided|not tested)">'
    assert {"holds", "fails"} <= set(re.findall(outcomes, rendered(paper, values=values)))
    text = rendered(demo, values=values)
    assert re.findall(outcomes, text) == []
    assert re.findall(r'<strong class="greyed">(\w+)', text)[:2] == ["fails", "holds"]
    assert "On generated images these say nothing of the paper" in text


def test_every_seed_and_every_difference_is_there_as_a_number(paper):
    values = {"scratch_adm": (80.0, 80.2, 80.7), "hybrid_ft": (83.0, 82.0, 83.5)}
    table = table_of(paper, values)
    text = page.render(table, Evidence(paper, {}), {"seeds": "<svg id='x'></svg>"})
    assert (
        row_of(text, "Hybrid, fine-tuning", below="<caption>Percent, seeds 0, 1, 2")[0]
        == "83.00, 82.00, 83.50"
    )
    assert row_of(text, "Hybrid, LEDM", below="<caption>Percent, seeds 0, 1, 2")[0] == "–"
    truth = stats.ttest_rel(values["hybrid_ft"], values["scratch_adm"]).confidence_interval(0.95)
    ahead = f"+2.5 [{truth.low:+.1f}, {truth.high:+.1f}]"
    assert (
        row_of(text, "Hybrid, fine-tuning", below="<caption>Points ahead of ADM from scratch")
        == [ahead] * 5
    )
    # Nothing to be ahead of: no run of supervised pretraining.
    assert "Points ahead of ADM from scratch" in text
    assert "Points ahead of Supervised, fine-tuning" not in text


def dots(axes):
    """Return the places of all dots of a panel."""
    lines = [line for line in axes.get_lines() if line.get_marker() == "o"]
    return sorted(
        (float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)
    )


def test_seeds_are_drawn_as_dots_and_not_as_bars(paper):
    figure = figures.seeds(table_of(paper, {"i1k_deeplab": (80.0, 81.0, 85.0)}))
    for axes in figure.axes:
        assert dots(axes) == [(80.0, 1.0), (81.0, 1.0), (85.0, 1.0)]
        assert not axes.patches


@pytest.mark.parametrize("baseline", figures.BASELINES)
def test_gains_are_drawn_over_scratch_and_over_supervised_with_their_intervals(paper, baseline):
    values = {baseline: (80.0, 80.2, 80.7), "hybrid_ft": (83.0, 82.0, 83.5)}
    figure = figures.gains(table_of(paper, values), baseline)
    truth = stats.ttest_rel(values["hybrid_ft"], values[baseline]).confidence_interval(0.95)
    assert len(figure.axes) == len(paper.targets)
    for axes in figure.axes:
        ((x, y),) = dots(axes)
        assert x == pytest.approx(7.6 / 3)
        drawn = [
            list(line.get_xdata()) for line in axes.get_lines() if set(line.get_ydata()) == {y}
        ]
        assert pytest.approx([truth.low, truth.high]) in drawn
    name = figure.axes[0].get_yticklabels()[int(y)].get_text()
    assert name == "Hybrid, fine-tuning"


def test_the_ranks_are_drawn_with_the_critical_difference(paper):
    values = {m: (50.0 + i, 50.2 + i, 50.1 + i) for i, m in enumerate(paper.methods)}
    table = table_of(paper, values)
    (axes,) = figures.ranks(table, figures.ranks_of(table)).axes
    assert [x for x, _ in dots(axes)] == [*range(1, 12)]
    (bar,) = (line.get_xdata() for line in axes.get_lines() if line.get_marker() == "|")
    assert bar[1] - bar[0] == pytest.approx(critical_difference(11, 5))


def test_several_processes_draw_what_one_draws(paper, tmp_path):
    values = {m: (50.0 + i, 50.2 + i, 50.1 + i) for i, m in enumerate(paper.methods)}
    left = logging(tmp_path, ("loss", 1, 2.0), ("val_jaccard", 2, 1.0))
    evidence = Evidence(paper, of_method(paper, "hybrid_ft", artifacts=left))
    table = table_of(paper, values)
    one = figures.save(table, evidence, tmp_path / "one")
    assert list(one) == list(figures.FIGURES)
    for processes in (2, 50):
        folder = tmp_path / str(processes)
        assert figures.save(table, evidence, folder, processes=processes) == one
        files = sorted(path.name for path in folder.iterdir())
        assert files == sorted(f"{name}.{end}" for name in one for end in ("png", "svg"))
        assert all((folder / f).read_bytes() == (tmp_path / "one" / f).read_bytes() for f in files)


def test_what_another_process_cannot_write_is_told_once(paper, tmp_path, capfd):
    table = table_of(paper, {m: (50.0, 50.2, 50.1) for m in paper.methods})
    (tmp_path / "gain_over_scratch_adm.svg").mkdir()
    with pytest.raises(IsADirectoryError):
        figures.save(table, Evidence(paper, {}), tmp_path, processes=2)
    assert capfd.readouterr().err == ""


def test_a_figure_that_lost_its_values_does_not_stay(paper, tmp_path):
    figures.save(table_of(paper, {"hybrid_ft": (1.0, 2.0, 3.0)}), Evidence(paper, {}), tmp_path)
    assert (tmp_path / "seeds.png").is_file()
    assert figures.save(table_of(paper, {}), Evidence(paper, {}), tmp_path) == {}
    assert not list(tmp_path.iterdir())


def test_learning_curves_are_a_line_per_run_in_a_panel_per_dataset(paper, tmp_path):
    left = logging(tmp_path, ("loss", 1, 2.0), ("loss", 2, 1.0))
    runs = of_method(paper, "hybrid_ft", artifacts=left)
    table = table_of(paper, {})
    drawn = figures.draw(table, Evidence(paper, runs), "pretraining_curves")
    assert [axes.get_title() for axes in drawn.axes] == ["ISIC 2018", "Shenzhen", "CelebAMask-HQ"]
    assert [list(axes.get_lines()[0].get_ydata()) for axes in drawn.axes] == [[2.0, 1.0]] * 3


def test_pictures_are_of_the_seed_nearest_to_the_mean(paper, tmp_path):
    runs = {}
    for run in paper.runs:
        if run.methods == ("scratch_adm",) and run.target == "ph2":
            folder = tmp_path / run.key
            folder.mkdir()
            Image.new("RGB", (8, 8)).save(folder / "predictions.png")
            runs[run.key] = done(run, artifacts=folder)
    table = table_of(paper, {"scratch_adm": (70.0, 80.5, 90.0)})
    found = page.predictions(table, Evidence(paper, runs))
    ((where, _),) = found["PH2"]
    assert where == "ADM from scratch, PH2, seed 1"


def test_a_page_that_is_passed_on_shows_no_image(paper, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "predictions.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "samples.png")
    runs = {run.key: done(run, artifacts=tmp_path) for run in paper.runs}
    values = dict.fromkeys(paper.methods, (70.0, 80.5, 90.0))
    assert rendered(paper, Evidence(paper, runs), values).count("<img") > 55
    text = rendered(paper, Evidence(paper, runs, pictures=False), values)
    assert "<img" not in text
    assert "may forbid to pass its images on" in text


def test_the_page_says_what_the_benchmark_of_the_intervals_found(paper):
    text = rendered(paper)
    (low, high), (neither,), (bootstrap,) = (
        map(int, re.search(pattern, text).groups())
        for pattern in (
            r"hold the truth in (\d+) to (\d+) %",
            r"in (\d+) % where",
            r"few as (\d+) %",
        )
    )
    record = json.loads((ROOT / "benchmarks/results/coverage.json").read_text())
    assert record["seeds"] == 3
    found = record["percent_covered"]
    rest = {name for name in found if name.startswith("neither")}
    usual = [round(each["report"]) for name, each in found.items() if name not in rest]
    assert (min(usual), max(usual)) == (low, high)
    # Within two points of 95 %, or said to be further off.
    assert 93 <= low <= high <= 97
    assert {round(found[name]["report"]) for name in rest} == {neither}
    assert min(round(each["percentile_bootstrap"]) for each in found.values()) == bootstrap


def luminance(colour):
    # Source: WCAG 2.1, "relative luminance".
    full = colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
    parts = [int(full[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_text_has_the_contrast_that_wcag_asks_for_in_both_colour_schemes(paper):
    schemes = re.findall(r":root \{(.*?)\}", rendered(paper))
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#\w+)", scheme))
        for name in ("ink", "pale", "good", "bad"):
            for behind in ("paper", "tint"):
                assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
        assert contrast(colours["warn"], colours["warn-paper"]) >= 4.5
    assert contrast("#000", "#ffffff") == pytest.approx(21)
