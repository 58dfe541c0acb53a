"""A stored run, trained again: the same bits, and told when they are not."""

import json
import shutil

import pytest

from tests.command_line import hdsweep
from tests.documents import document

pytestmark = pytest.mark.slow
ROWS = ("--methods", "hybrid_ft,i1k_deeplab", "--targets", "ph2", "--seeds", "0")


def reproduced(what, home, *arguments, exit_code=0):
    out, _ = hdsweep(
        "reproduce", what, "--scale", "smoke", "--json", *arguments, home=home, exit_code=exit_code
    )
    return document(out)["runs"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    hdsweep("run", "table2", "--scale", "smoke", *ROWS, "--workers", 1, home=home)
    return home


@pytest.fixture
def home(swept, tmp_path):
    return shutil.copytree(swept, tmp_path / "home")


def test_a_cell_is_trained_again_to_the_same_bits_and_nothing_stored_is_touched(swept):
    before = {p: p.read_bytes() for p in swept.glob("artifacts/*/artifacts/*.json")}
    (found,) = reproduced("hybrid_ft/PH2/0", swept)
    assert found["identical"]
    assert found["drift"] == found["environment"] == {}
    assert "test_jaccard" in found["metrics"]
    assert {p: p.read_bytes() for p in swept.glob("artifacts/*/artifacts/*.json")} == before
    # All that made it: the number to the last digit, settings, data, code, hardware, start.
    made = found["made_of"]
    assert float(made["test_jaccard"]) == found["metrics"]["test_jaccard"]
    assert set(made) > {"training.optimizer.lr", "dataset.fingerprint", "hdsweep", "torch"}
    assert set(made) > {"device", "pretrained.key", "seed", "updates"}


def test_from_scratch_its_pretraining_comes_first_and_its_weights_are_compared(swept):
    pretraining, cell = reproduced("hybrid_ft/ph2/0", swept, "--from-scratch")
    assert pretraining["label"].startswith("pretrain hybrid")
    assert pretraining["identical"]
    assert cell["identical"]
    (alone,) = reproduced(pretraining["key"], swept)
    assert alone["identical"]


def test_drift_is_named_with_both_values(home):
    (cell,) = reproduced("i1k_deeplab/ph2/0", home)
    (file,) = (
        path
        for path in home.glob("artifacts/*/artifacts/result.json")
        if json.loads(path.read_text())["key"] == cell["key"]
    )
    record = json.loads(file.read_text())
    record["metrics"]["test_jaccard"] += 1e-9
    record["environment"]["torch"] = "1.0"
    file.write_text(json.dumps(record))
    (found,) = reproduced("i1k_deeplab/ph2/0", home, exit_code=1)
    assert list(found["drift"]) == ["test_jaccard"]
    stored, now = found["drift"]["test_jaccard"]
    assert stored - now == pytest.approx(1e-9, rel=1e-3)
    assert found["environment"]["torch"][0] == "1.0"


def test_what_is_missing_is_named(home):
    for what, message in (
        ("hybrid_ft/ph2/7", "has a cell `hybrid_ft/ph2/7`"),
        ("hybrid_ft/ph2/1", "the cell `hybrid_ft/ph2/1` is not finished"),
        ("nobody", "nothing stored is called `nobody`"),
        ("lambda-search/3", "nothing stored is called `lambda-search/3`"),
    ):
        _, said = hdsweep("reproduce", what, "--scale", "smoke", home=home, exit_code=2)
        assert message in said
    shutil.rmtree(home / "datasets")
    (home / "datasets").mkdir()
    key = reproduced_key(home)
    _, said = hdsweep("reproduce", key, home=home, exit_code=2)
    assert "the dataset `isic2018-like` with the fingerprint" in said


def reproduced_key(home):
    """Return the key of the stored pretraining."""
    for path in home.glob("artifacts/*/artifacts/spec.json"):
        if json.loads(path.read_text())["stage"] == "pretraining":
            return json.loads((path.parent / "result.json").read_text())["key"]
    raise AssertionError
