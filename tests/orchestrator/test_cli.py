"""The command line as a user meets it: in a process of its own, wrong input above all."""

import re
import shutil
from pathlib import Path

import pytest

from orchestrator.plan.plan import load_plan
from orchestrator.store.home.home import open_home
from orchestrator.store.store import Store
from tests.command_line import hdsweep
from tests.documents import document

STUDY = """
title = "Mine"
seeds = [0]
methods = ["hybrid_ft"]

[sources.isic2018]
targets = ["ph2"]
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(STUDY)
    return path


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--methods", "hybridft"], "unknown method `hybridft`", "did you mean `hybrid_ft`?"),
        (["--targets", "phh2"], "target `phh2`", "did you mean `ph2`?"),
        (["--seeds", "7"], "seed `7`", "hint: "),
        (["--scale", "demoo"], "unknown scale `demoo`", "did you mean `demo`?"),
        (
            ["--set", "pretraining.mask_wait=1"],
            "setting `pretraining.mask_wait`",
            "did you mean `pretraining.mask_weight`?",
        ),
        (["--set", "pretraining.updates=-1"], "`updates`", "-1"),
        (["--progress", "loud"], "--progress loud", "auto, live, plain, none"),
    ],
)
def test_wrong_arguments_are_one_clear_line_and_leave_no_trace(tmp_path, arguments, message, hint):
    home = tmp_path / "home"
    out, err = hdsweep("run", "table2", *arguments, home=home, exit_code=2)
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert hint in err
    assert "Traceback" not in err
    assert not home.exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('methods = ["hybrid_ft"]', 'methods = ["hybrid"]\nmethod = 1', "unknown key `method`"),
        ("seeds = [0]", "sedes = [0]", "unknown key `sedes`"),
        ('targets = ["ph2"]', 'targets = ["ph3"]', "unknown dataset `ph3`"),
        ("[sources.isic2018]", "[sources.ph2]", "is a target, not a source"),
        ('targets = ["ph2"]', "targets = []", "lists no targets"),
        ("[sources.isic2018]\ntargets", "[targets.ph2]\n[other]\ntargets", "unknown key `other`"),
        ('[sources.isic2018]\ntargets = ["ph2"]', "[targets.ph2]", "no source lists `ph2`"),
        ("title", "title = = 1", "is not TOML"),
    ],
)
def test_a_wrong_study_is_one_clear_line(tmp_path, study, old, new, message):
    study.write_text(STUDY.replace(old, new))
    _, err = hdsweep("plan", study, home=tmp_path / "home", exit_code=2)
    assert err.startswith("error: ")
    assert message in err
    assert "mine.toml" in err


def test_a_study_that_is_not_there(tmp_path):
    _, err = hdsweep("plan", "tabel2", home=tmp_path, exit_code=2)
    assert "did you mean `table2`?" in err
    _, err = hdsweep("plan", "mine", home=tmp_path, exit_code=2)
    assert "known studies: cxr_small, skin_small, table2" in err
    _, err = hdsweep("plan", tmp_path / "none.toml", home=tmp_path, exit_code=2)
    assert "there is no study file" in err


def test_the_paper_names_what_is_missing(tmp_path):
    _, err = hdsweep("run", "table2", home=tmp_path / "home", exit_code=2)
    assert "lacks the prepared datasets ph2" in err
    assert "ImageNet weights resnet50, mit_b3" in err


@pytest.mark.parametrize("verb", ["run", "plan", "status", "report", "reconcile", "ui"])
def test_a_home_of_a_newer_version(tmp_path, verb):
    # Those that only look would else say that nothing is stored.
    (tmp_path / "VERSION").write_text("99\n")
    study = ["table2", "--scale", "smoke"] if verb not in ("reconcile", "ui") else []
    out, err = hdsweep(verb, *study, home=tmp_path, exit_code=2)
    assert out == ""
    assert err.startswith("error: ")
    assert "layout version 99" in err
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["VERSION"]


def test_a_home_that_is_not_there_is_not_made_by_putting_it_in_order(tmp_path):
    for rebuild in ([], ["--rebuild"]):
        _, err = hdsweep("reconcile", *rebuild, home=tmp_path / "nope" / "home", exit_code=2)
        assert f"nothing was run in home folder `{tmp_path / 'nope' / 'home'}`" in err
        assert not (tmp_path / "nope").exists()


def test_a_home_that_cannot_be_written():
    _, err = hdsweep("run", "table2", "--scale", "smoke", home=Path("/proc/none"), exit_code=2)
    assert "home folder `/proc/none` cannot be written" in err


def test_a_dataset_that_changed_on_disk_is_refused_before_anything_starts(tmp_path):
    hdsweep("data", "prepare", "ph2-like", "--image-size", 16, home=tmp_path)
    study = tmp_path / "mine.toml"
    study.write_text(STUDY.replace("hybrid_ft", "scratch_adm"))
    scale = ["--scale", "smoke", "--set", "data.target_images=200"]
    (data,) = tmp_path.glob("datasets/ph2-like-*/data.arrow")
    damaged = bytearray(data.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    data.write_bytes(damaged)
    _, err = hdsweep("run", study, *scale, home=tmp_path, exit_code=2)
    assert "ph2-like" in err
    assert "prepare `ph2-like` again" in err
    assert not list(tmp_path.glob("attempts/*"))


def test_planning_at_paper_scale_needs_nothing(tmp_path):
    out, err = hdsweep("plan", "table2", "--json", home=tmp_path / "home")
    records = document(out)["runs"]
    assert len(records) == 180
    assert sum(record["stage"] == "pretraining" for record in records) == 15
    # 54 million images through the pretrainings: days of a GPU. 33 of them through an ADM, 49 a second.
    assert sum(record["forecast_seconds"] for record in records) / 3600 == pytest.approx(
        210, rel=0.05
    )
    assert err == ""
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(("methods", "runs"), [("baselines", 135), ("hybrid", 30), ("all", 165)])
def test_groups_of_methods(tmp_path, methods, runs):
    out, _ = hdsweep("plan", "table2", "--methods", methods, "--json", home=tmp_path)
    stages = [each["stage"] for each in document(out)["runs"]]
    assert stages.count("fine-tuning") == runs


@pytest.fixture
def begun(tmp_path, empty_database):
    """Return a home in which all of Table 2 at smoke scale was begun, and nothing has run."""
    home = open_home(tmp_path / "home")
    shutil.copy(empty_database, home.database)
    with Store.open(home) as store:
        store.begin_sweep(load_plan("table2", scale="smoke"))
    return home.path


def test_a_report_of_nothing_names_every_missing_cell(begun):
    out, _ = hdsweep("report", "table2", "--scale", "smoke", "--json", home=begun)
    cells = document(out)["cells"]
    assert len(cells) == 55
    assert all(cell["missing"] == dict.fromkeys("012", "not run") for cell in cells)


def test_a_report_of_nothing_is_short(begun):
    out, _ = hdsweep("report", "table2", "--scale", "smoke", home=begun)
    (line,) = (line for line in out.splitlines() if line.startswith("missing: "))
    assert line.startswith("missing: scratch_adm ph2-like seed 0, scratch_adm ph2-like seed 1, ")


@pytest.mark.parametrize("verb", ["status", "report"])
def test_of_what_is_not_stored_they_say_what_is(tmp_path, begun, verb):
    for home, message in (
        (tmp_path / "none", f"there is no home folder `{tmp_path / 'none'}`"),
        (tmp_path, f"nothing was run in home folder `{tmp_path}` yet"),
        (begun, f"unknown sweep `table2/paper` at `{begun}`"),
    ):
        out, err = hdsweep(verb, "table2", home=home, exit_code=2)
        assert out == ""
        assert err.startswith(f"error: {message}")
    assert "there is table2/smoke" in err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_report_that_cannot_be_written_says_where(tmp_path, begun, out):
    (tmp_path / "file").touch()
    asked = ("report", "table2", "--scale", "smoke", "--out", tmp_path / out)
    _, err = hdsweep(*asked, home=begun, exit_code=2)
    assert err.startswith(f"error: the report at `{tmp_path / out}` cannot be written: ")
    assert "Traceback" not in err


def test_status_of_nothing(begun):
    out, _ = hdsweep("status", "table2", "--scale", "smoke", "--json", home=begun)
    status = document(out)
    assert (status["planned"], status["waiting"], status["driver"]) == (180, 180, None)


def test_the_home_may_come_from_the_environment(tmp_path):
    hdsweep("data", "prepare", "ph2-like", "--image-size", 16, HDSWEEP_HOME=str(tmp_path))
    assert list(tmp_path.glob("datasets/ph2-like-16/dataset.json"))


def test_datasets_are_listed_with_what_is_prepared(tmp_path):
    out, _ = hdsweep("data", "list", "--json", home=tmp_path)
    records = {record["name"]: record for record in document(out)["datasets"]}
    assert records["shenzhen"]["expected"] == 566
    assert records["isic2018"]["prepared"] is None
    assert records["ph2-like"]["generated"]


def test_preparing_from_the_wrong_folder_says_what_is_expected(tmp_path):
    _, err = hdsweep(
        "data", "prepare", "shenzhen", "--from", tmp_path, home=tmp_path / "home", exit_code=2
    )
    assert err.startswith("error: ")
    assert str(tmp_path) in err


def test_help_names_every_verb():
    out, _ = hdsweep("--help")
    for verb in ("run", "plan", "status", "report", "reconcile", "ui", "doctor", "data"):
        assert f" {verb} " in out


def test_help_fits_a_small_terminal_and_says_what_how_where_and_watching():
    out, _ = hdsweep("run", "--help", COLUMNS="80")
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert "2 wrong input,\n 130 interrupted (143 by" in re.sub(" +\n", "\n", out)
    panels = re.findall("╭─ (.*?) ─", out)
    assert panels[2:] == [
        "What runs",
        "How it runs",
        "Where it runs and is kept",
        "Watching",
    ]


def test_the_version_is_printed():
    out, _ = hdsweep("--version")
    assert out.strip()
