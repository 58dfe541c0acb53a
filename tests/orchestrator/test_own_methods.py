"""Methods of one's own: a file that a study names, checked, planned, and trained by Ray's workers."""

import textwrap

import pytest

from tests.command_line import hdsweep
from tests.documents import document

METHOD = """
    from torch.nn import functional as F

    from trainables.losses.accumulated import segmentation_shares
    from trainables.methods import Method
    from trainables.pretraining.supervised import SupervisedPretraining


    class Flipped(SupervisedPretraining):
        "Supervised pretraining on mirrored images."

        def shares(self, images_BCHW, labels_BHW):
            return super().shares(images_BCHW.flip(-1), labels_BHW.flip(-1))


    METHODS = (
        Method(
            name="flipped_ft",
            title="Flipped, fine-tuning",
            network="adm",
            pretraining="{module}:Flipped",
            adaptation="finetune",
        ),
    )
"""

FORGETS = """
    from trainables.adaptation.finetune import FineTuning
    from trainables.methods import Method


    class Forgetful(FineTuning):
        def own_state(self):
            state = super().own_state()
            state["descent"] = type(self)(self.spec, self.places).descent.state_dict()
            return state


    METHODS = (
        Method(
            name="forgetful",
            title="Forgetful",
            network="adm",
            pretraining=None,
            adaptation="{module}:Forgetful",
        ),
    )
"""

STUDY = """
    title = "mine"
    seeds = [0]
    scale = "smoke"
    method_files = ["{module}.py"]
    methods = ["flipped_ft", "supervised_ft"]
    [sources.isic2018]
    targets = ["ph2"]
"""


def write(path, text, module):
    path.write_text(textwrap.dedent(text).replace("{module}", module))
    return path


@pytest.mark.slow
def test_a_method_that_keeps_its_promises_passes(tmp_path):
    file = write(tmp_path / "flipped.py", METHOD, "flipped")
    out, _ = hdsweep("check", file, "--json", HDSWEEP_HOME=str(tmp_path / "home"))
    findings = document(out)["findings"]
    assert len(findings) == 12  # Six promises for each of two runs.
    assert all(finding["kept"] for finding in findings)
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
def test_a_method_that_forgets_part_of_its_state_is_told_so(tmp_path):
    file = write(tmp_path / "forgetful.py", FORGETS, "forgetful")
    out, err = hdsweep("check", file, exit_code=1, HDSWEEP_HOME=str(tmp_path / "home"))
    (failed,) = (line for line in out.splitlines() if line.startswith("FAIL"))
    assert "interrupted and resumed, it ends with the same bits" in failed
    assert "does not keep what the sweep relies on" in err


@pytest.mark.slow
def test_a_study_with_a_method_of_its_own_is_swept_and_changed_code_is_another_run(tmp_path):
    home = tmp_path / "home"
    file = write(tmp_path / "mine_swept.py", METHOD, "mine_swept")
    study = write(tmp_path / "study.toml", STUDY, "mine_swept")
    out, _ = hdsweep("run", study, "--json", "--workers", 1, home=home)
    summary = document(out)
    assert (summary["planned"], summary["finished"], summary["failed"]) == (4, 4, 0)
    out, _ = hdsweep("report", study, "--json", home=home)
    values = {cell["method"]: cell["values"]["0"] for cell in document(out)["cells"]}
    assert values["flipped_ft"] != values["supervised_ft"]
    out, _ = hdsweep("plan", study, "--json", home=home)
    before = {record["label"]: record["key"] for record in document(out)["runs"]}
    file.write_text(file.read_text() + "# another file\n")
    out, _ = hdsweep("plan", study, "--json", home=home)
    after = {record["label"]: record["key"] for record in document(out)["runs"]}
    changed = {label for label, key in before.items() if key not in after.values()}
    assert changed == {
        label for label in before if "mine_swept" in label or label.startswith("flipped")
    }
    assert len(changed) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines no tuple METHODS"),
        ("METHODS = (", "SyntaxError"),
        ("import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        (METHOD.replace("flipped_ft", "hybrid_ft"), "the name `hybrid_ft` is taken"),
    ],
)
def test_method_files_that_cannot_be_used_say_why(tmp_path, text, message):
    module = f"bad_{abs(hash(text)) % 10**8}"
    write(tmp_path / f"{module}.py", text, module)
    study = write(tmp_path / "study.toml", STUDY, module)
    _, err = hdsweep("plan", study, home=tmp_path / "home", exit_code=2)
    assert f"method file {tmp_path / module}.py: " in err
    assert message in err
    assert "named by" in err
    assert "Traceback" not in err


def test_a_method_file_that_is_missing_is_named(tmp_path):
    study = write(tmp_path / "study.toml", STUDY, "nowhere")
    _, err = hdsweep("plan", study, home=tmp_path / "home", exit_code=2)
    assert f"no method file {tmp_path / 'nowhere.py'}" in err


def test_a_module_of_the_standard_library_is_not_hidden(tmp_path):
    write(tmp_path / "json.py", METHOD, "json")
    study = write(tmp_path / "study.toml", STUDY, "json")
    _, err = hdsweep("plan", study, home=tmp_path / "home", exit_code=2)
    assert "the module name `json` is taken" in err
