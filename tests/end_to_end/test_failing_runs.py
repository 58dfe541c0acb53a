"""One run that fails stops its own descendants and nothing else."""

import json

import pytest

from tests.command_line import hdsweep
from tests.documents import document

pytestmark = pytest.mark.slow

STUDY = """
title = "One of three diverges"
seeds = [0]
methods = ["scratch_adm", "diffusion_ft", "hybrid_ft"]

[sources.isic2018]
targets = ["ph2"]

[overrides.hybrid_ft.pretraining]
optimizer.lr = 1e30
optimizer.clip_norm = "none"
"""


def run(study, home, *settings):
    """Make a sweep of which not all runs finish; return its summary and what it told."""
    out, err = hdsweep("run", study, *settings, "--json", home=home, exit_code=1)
    return document(out), err


def test_a_run_that_diverges_fails_alone(tmp_path):
    study = tmp_path / "mine.toml"
    study.write_text(STUDY)
    settings = ("--scale", "smoke", "--set", "pretraining.updates=8")
    summary, told = run(study, tmp_path / "home", *settings)
    counts = {name: summary[name] for name in ("planned", "finished", "failed", "blocked")}
    assert counts == {"planned": 5, "finished": 3, "failed": 1, "blocked": 1}
    assert (
        "pretrain hybrid isic2018-like: diverged: Diverged: loss is not finite at update" in told
    )
    assert "last finite" in told
    # Permanent: it was tried once.
    assert told.count("started  pretrain hybrid isic2018-like") == 1
    table = next((tmp_path / "home").glob("artifacts/*/artifacts/table/table.md")).read_text()
    assert (
        "missing: hybrid_ft ph2-like seed 0: blocked: pretrain hybrid isic2018-like failed"
        in table
    )

    # Again: what is finished stays, what failed is tried again.
    summary, _ = run(study, tmp_path / "home", *settings)
    assert (summary["reused"], summary["finished"], summary["failed"]) == (3, 0, 1)


BROKEN = """
from trainables.adaptation.finetune import FineTuning
from trainables.losses.segmentation import IGNORE
from trainables.methods import Method


class Broken(FineTuning):
    "Fails in the same way whatever the target."

    def advance(self):
        raise RuntimeError(f"no such layer: {self.spec.seed}")


class Hungry(FineTuning):
    "Has memory for two images at once."

    def advance(self):
        if self.micro_batch is None or self.micro_batch > 2:
            raise MemoryError(f"no memory for {self.micro_batch} images")
        super().advance()


METHODS = tuple(
    Method(name=name, title=name, network="adm", pretraining=None, adaptation=f"mine:{task}")
    for name, task in (("broken", "Broken"), ("hungry", "Hungry"))
)
"""

POLICIES = """
title = "Two of three methods fail"
seeds = [0, 1]
scale = "smoke"
method_files = ["mine.py"]
methods = ["scratch_adm", "broken", "hungry"]

[sources.isic2018]
targets = ["ph2", "dermis"]
"""


def test_each_kind_of_failure_has_its_policy(tmp_path):
    (tmp_path / "mine.py").write_text(BROKEN)
    study = tmp_path / "study.toml"
    study.write_text(POLICIES)
    home = tmp_path / "home"
    summary, told = run(study, home, "--workers", 1, "--retries", 5)
    # Broken: two runs, each twice, since the second attempt ended like the first; then no more.
    counts = {name: summary[name] for name in ("planned", "finished", "failed", "blocked")}
    assert counts == {"planned": 12, "finished": 8, "failed": 2, "blocked": 2}
    assert told.count("started  broken") == 4
    assert "broken stopped: 2 of its runs failed in the same way" in told
    # Hungry: from the batch of the scale down to two images, which is recorded.
    assert "again with 2 images at once" in told
    results = [
        json.loads(path.read_text()) for path in home.glob("artifacts/*/artifacts/result.json")
    ]
    assert sorted(str(each["micro_batch"]) for each in results) == ["2"] * 4 + ["None"] * 4
    out, _ = hdsweep("status", study, "--json", home=home)
    (group,) = document(out)["failures"]
    assert (group["kind"], len(group["labels"])) == ("error", 2)
    assert group["site"] == "mine.py:11 in advance"
    out, _ = hdsweep("status", study, "--failed", home=home)
    assert "2 runs, the same failure: error: RuntimeError: no such layer" in out
