"""The page: whole, valid, self-contained, the same for the same store, and honest at any moment."""

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import html5lib
import pytest
from PIL import Image

from orchestrator.home import Home
from orchestrator.plan import load_plan
from orchestrator.report import write_report
from orchestrator.report.evidence import Evidence, gather
from orchestrator.running import table_of
from orchestrator.store import Store

METHODS = "scratch_adm,supervised_ft,hybrid_ft"
SECTIONS = ("table", "claims", "differences", "curves", "pictures", "costs", "origin", "failures")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Return a home in which two of three methods were really run, and the plan of all three."""
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "orchestrator.cli", "run", "table2", "--home", str(home)]
    few = ["--scale", "smoke", "--methods", "scratch_adm,hybrid_ft", "--targets", "ph2,ffhq34"]
    subprocess.run([*command, *few, "--json"], check=True, capture_output=True, timeout=240)
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
    """Collects what a page would fetch, its ids and what points at them."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.ids, self.anchors, self.without_alt = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.without_alt += tag == "img" and not found.get("alt")
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = found.get(name, "")
            if value.startswith("#"):
                self.anchors.append(value[1:])
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


def test_the_sweep_stores_it_where_the_ui_looks_first(swept):
    (page,) = swept[0].artifacts.glob("*/artifacts/report.html")
    html5lib.HTMLParser(strict=True).parse(page.read_text())
    assert (page.parent / "table" / "figures" / "seeds.png").is_file()


def test_what_somebody_wrote_cannot_become_markup(tmp_path):
    study = tmp_path / "mine.toml"
    text = 'title = "<script>alert(1)</script>"\nseeds = [0]\nmethods = ["scratch_adm"]\n'
    study.write_text(text + '[sources.isic2018]\ntargets = ["ph2"]\n')
    plan = load_plan(str(study), scale="smoke")
    page, *_ = write_report(table_of(plan, None), tmp_path / "out", Evidence(plan, {}))
    assert "<script" not in page.read_text()
