"""The page: whole, valid, self-contained, the same for the same store, and honest at any moment."""

import base64
import io
import json
import re
import stat
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import html5lib
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from orchestrator.plan.plan import load_plan
from orchestrator.report import write_report
from orchestrator.report.evidence import Evidence, gather
from orchestrator.store.home.home import Home
from orchestrator.store.store import Store
from orchestrator.verbs.run import table_of
from tests.command_line import command, hdsweep

METHODS = "scratch_adm,supervised_ft,hybrid_ft"
SECTIONS = ("table", "claims", "differences", "curves", "pictures", "costs", "origin", "failures")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Return a home in which two of three methods were really run, and the plan of all three."""
    home = tmp_path_factory.mktemp("home")
    few = ["--scale", "smoke", "--methods", "scratch_adm,hybrid_ft", "--targets", "ph2,ffhq34"]
    hdsweep("run", "table2", *few, "--json", home=home)
    plan = load_plan("table2", scale="smoke", home=home, methods=METHODS, targets="ph2,ffhq34")
    return Home(home), plan


@pytest.fixture(scope="module")
def written(swept, tmp_path_factory):
    home, plan = swept
    store = Store.read(home)
    folder = tmp_path_factory.mktemp("report")
    files = write_report(table_of(plan, store), folder, gather(plan, store))
    return folder, files, files[0].read_text()


class References(HTMLParser):
    """Collects what a page would fetch, its ids and what points at them, and the files it links to."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.ids, self.anchors, self.without_alt = [], [], [], 0
        self.linked = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.without_alt += tag == "img" and not found.get("alt")
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = found.get(name, "")
            if value.startswith("#"):
                self.anchors.append(value[1:])
            elif tag == "a" and value:
                self.linked.append(value)
            elif value and not value.startswith("data:"):
                self.fetched.append(value)


def test_it_is_valid_html(written):
    html5lib.HTMLParser(strict=True).parse(written[2])


def test_it_fetches_nothing_and_every_reference_is_met_once(written):
    text = written[2]
    found = References(text)
    assert found.fetched == []
    assert "<script" not in text
    # Namespaces are names; an address in a style sheet would be fetched.
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {f"#{each}" for each in found.ids}
    assert len(found.ids) == len(set(found.ids))
    assert set(found.anchors) <= set(found.ids)
    assert set(SECTIONS) <= set(found.ids)
    assert found.without_alt == 0


def test_the_images_of_each_part_are_on_it(written, swept):
    splits = list(swept[0].artifacts.glob("*/artifacts/split.json"))
    assert len(splits) == 12
    for path in splits:
        for part, ids in json.loads(path.read_text()).items():
            assert f", {part}</dt><dd>{', '.join(ids)}</dd>" in written[2]


def test_every_picture_in_it_opens(written):
    pictures = re.findall(r'src="data:image/webp;base64,([^"]+)"', written[2])
    # Of each finished cell the predictions, and what the hybrid pretrainings draw.
    assert len(pictures) == 4 + 2
    for each in pictures:
        Image.open(io.BytesIO(base64.b64decode(each))).verify()


def test_it_says_what_it_is_and_how_far_it_is(written, swept):
    text = written[2]
    assert "generated data: made by a program, says nothing about real images" in text
    assert "4 of 6 cells have all their seeds" in text
    assert "– [0/3]" in text
    assert "a two-sided sign test over 3 seeds cannot go below p = 0.25" in text
    assert "each pretraining was made once" in text
    # The third method's pretrainings and fine-tunings are not there.
    assert f"14 of {len(swept[1].runs)} runs are finished" in text


def test_no_path_of_this_machine_is_in_it(written, swept):
    for path in written[1]:
        if path.suffix != ".parquet":
            assert str(swept[0].path).encode() not in path.read_bytes(), path


def test_figures_come_as_svg_and_png(written):
    _, files, _ = written
    figures = [path for path in files if path.parent.name == "figures"]
    names = {path.stem for path in figures}
    assert {"seeds", "gain_over_scratch_adm", "ranks", "fine_tuning_curves"} <= names
    for path in figures:
        if path.suffix == ".svg":
            text = path.read_text()
            ElementTree.fromstring(text)
            assert "generated data" in text
        else:
            Image.open(path).verify()


def test_the_same_store_gives_the_same_page(written, swept, tmp_path):
    home, plan = swept
    store = Store.read(home)
    again = write_report(table_of(plan, store), tmp_path, gather(plan, store))
    assert again[0].read_text() == written[2]


def test_it_can_be_written_before_anything_has_run(tmp_path):
    plan = load_plan("table2")
    page, *_ = write_report(table_of(plan, None), tmp_path, Evidence(plan, {}))
    text = page.read_text()
    html5lib.HTMLParser(strict=True).parse(text)
    assert "0 of 55 cells have all their seeds; 0 of 180 runs are finished" in text
    # At paper scale the published numbers stand below ours.
    assert "88.23 ± 0.21" in text


def test_the_sweep_stores_it_where_the_ui_looks_first(swept, written):
    (page,) = swept[0].artifacts.glob("*/artifacts/report.html")
    html5lib.HTMLParser(strict=True).parse(page.read_text())
    assert (page.parent / "table" / "figures" / "seeds.png").is_file()
    # Wherever the page lies, its links lead to what lies with it.
    for folder, links in (
        (written[0], References(written[2]).linked),
        (page.parent, References(page.read_text()).linked),
    ):
        assert {Path(link).name for link in links} >= {"table.csv", "table.parquet", "table.json"}
        assert [link for link in links if not (folder / link).is_file()] == []


def mlflow_of(home):
    """Return MLflow's own client of a home and the id of our experiment."""
    client = MlflowClient(f"sqlite:///{home.database}")
    return client, [client.get_experiment_by_name("hdsweep").experiment_id]


def test_every_form_of_the_table_is_an_artifact_of_the_sweep(swept):
    (folder,) = swept[0].artifacts.glob("*/artifacts/table")
    names = {path.name for path in folder.iterdir() if path.is_file()}
    forms = {f"table.{form}" for form in ("md", "tex", "csv", "parquet", "json")}
    assert names == {*forms, "table.csv-metadata.json", "cells.json"}


def test_mlflow_has_the_cells_as_its_table_and_a_run_for_each(swept, monkeypatch):
    # Reading a table, MLflow looks for its runs at the address that it is set to as a whole.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{swept[0].database}")
    (folder,) = swept[0].artifacts.glob("*/artifacts/table")
    cells = json.loads((folder / "table.json").read_text())["cells"]
    expected = {
        (cell["method"], cell["target"]): (cell["mean"], cell["std"], cell["n"]) for cell in cells
    }
    assert len(expected) == 4
    client, (experiment,) = mlflow_of(swept[0])
    shown = {
        (cell["method"], cell["dataset"]): values
        for cell, values in zip(cells, expected.values(), strict=True)
    }
    table = client.load_table(experiment, "table/cells.json", run_ids=[folder.parents[1].name])
    rows = {
        (row["method"], row["target"]): (row["mean"], row["std"], row["n"])
        for _, row in table.iterrows()
    }
    summaries = {
        (run.data.tags["hdsweep.method"], run.data.tags["hdsweep.target"]): tuple(
            run.data.metrics[name] for name in ("mean", "std", "n")
        )
        for run in client.search_runs([experiment], "tags.`hdsweep.kind` = 'summary'")
    }
    assert (rows.keys(), summaries) == (shown.keys(), expected)
    for cell, values in shown.items():
        assert rows[cell] == pytest.approx(values, rel=1e-9)  # pandas rounds as it reads.


def test_a_run_is_tagged_with_what_it_was_and_where_it_ran(swept):
    client, experiments = mlflow_of(swept[0])
    runs = client.search_runs(experiments, "tags.`hdsweep.kind` = 'run'")
    promised = {"key", "methods", "stage", "seed", "attempt", "hdsweep", "torch", "machine"}
    for run in runs:
        tags = {name.removeprefix("hdsweep."): value for name, value in run.data.tags.items()}
        assert promised <= tags.keys()
        assert ("target" in tags) == (tags["stage"] == "fine-tuning")
        assert tags["device"] == "cpu"
    pretrainings = [r for r in runs if r.data.tags["hdsweep.stage"] == "pretraining"]
    kept = {path.parents[1].name for path in swept[0].artifacts.glob("*/*/weights.safetensors")}
    # Pretrained weights always, fine-tuned ones where they are asked for.
    assert kept == {run.info.run_id for run in pretrainings}
    assert (len(pretrainings), len(runs)) == (2, 14)


def test_the_report_in_the_home_is_its_owners_whatever_the_umask(swept):
    few = ("--methods", METHODS, "--targets", "ph2,ffhq34", "--home", swept[0].path)
    call = command("report", "table2", "--scale", "smoke", *few)
    subprocess.run(call, check=True, capture_output=True, umask=0)
    reports = swept[0].path / "reports"
    found = list(reports.rglob("*"))
    assert any(path.name == "report.html" for path in found)
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in [reports, *found]} == {0}


def test_what_somebody_wrote_cannot_become_markup(tmp_path):
    study = tmp_path / "mine.toml"
    text = 'title = "<script>alert(1)</script>"\nseeds = [0]\nmethods = ["scratch_adm"]\n'
    study.write_text(text + '[sources.isic2018]\ntargets = ["ph2"]\n')
    plan = load_plan(str(study), scale="smoke")
    page, *_ = write_report(table_of(plan, None), tmp_path / "out", Evidence(plan, {}))
    assert "<script" not in page.read_text()
