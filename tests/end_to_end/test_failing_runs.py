"""One run that fails stops its own descendants and nothing else."""

import json
import subprocess
import sys

import pytest

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


def run(study, home):
    command = [sys.executable, "-m", "orchestrator.cli", "run", str(study), "--home", str(home)]
    settings = ["--scale", "smoke", "--set", "pretraining.updates=8", "--json"]
    done = subprocess.run(
        [*command, *settings], check=False, capture_output=True, text=True, timeout=240
    )
    return done, json.loads(done.stdout.splitlines()[-1])


def test_a_run_that_diverges_fails_alone(tmp_path):
    study = tmp_path / "mine.toml"
    study.write_text(STUDY)
    done, summary = run(study, tmp_path / "home")
    assert done.returncode == 1
    counts = {name: summary[name] for name in ("planned", "finished", "failed", "blocked")}
    assert counts == {"planned": 5, "finished": 3, "failed": 1, "blocked": 1}
    assert (
        "pretrain hybrid isic2018: diverged: Diverged: loss is not finite at update" in done.stderr
    )
    assert "last finite" in done.stderr
    # Permanent: it was tried once.
    assert done.stderr.count("started  pretrain hybrid isic2018") == 1
    table = next((tmp_path / "home").glob("artifacts/*/artifacts/table/table.md")).read_text()
    assert "missing: hybrid_ft ph2 seed 0: blocked: pretrain hybrid isic2018 failed" in table

    # Again: what is finished stays, what failed is tried again.
    done, summary = run(study, tmp_path / "home")
    assert done.returncode == 1
    assert (summary["reused"], summary["finished"], summary["failed"]) == (3, 0, 1)
