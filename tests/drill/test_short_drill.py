"""A short drill: of a seed that is always the same, with each blow that any machine can deal."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BLOWS = (
    "driver SIGKILL",
    "driver SIGSTOP",
    "group SIGTERM",
    "worker SIGKILL",
    "worker SIGTERM",
    "worker SIGINT",
    "worker SIGSTOP",
    "GCS SIGSTOP",
    "reader SIGKILL",
    "database locked",
    "file renamed away",
    "run deleted in MLflow",
    "second driver",
)
EPISODES_MAX, MINUTES_MAX = 12, 60  # It ends as soon as each has fallen.


@pytest.mark.slow
def test_a_sweep_and_an_import_under_each_blow_end_as_if_there_were_none(tmp_path):
    asked = {
        "--subjects": "small sweep,import",
        "--blows": ",".join(BLOWS),
        "--seed": "short",
        "--episodes": EPISODES_MAX,
        "--minutes": MINUTES_MAX,
        "--log": tmp_path / "drill.jsonl",
    }
    options = [str(part) for pair in asked.items() for part in pair]
    done = subprocess.run(
        [sys.executable, "-m", "tests.drill", "--once", *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-5000:]
    figures = json.loads(done.stdout)
    assert figures["broken"] == []
    assert figures["identical"] == sum(figures["episodes"].values())
    assert set(figures["blows"]) == set(BLOWS)
