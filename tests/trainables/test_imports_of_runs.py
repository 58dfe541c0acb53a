"""What a run imports of our package it has imported before its first update, where it is proven to be the driver's.

Later, a file that changed on disk would be other code, and cost what was trained since the last proof.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest

RUNS = """
import json, math, os, sys
from pathlib import Path

import trainables.tune_adapter
from trainables.config import RunSpec
from trainables.execute import Session
from trainables.loop import Places

def ours():
    return {name for name in sys.modules if name.startswith("trainables")}

def train(spec, places):
    session = Session(RunSpec.model_validate(spec), Places(**places))
    before = ours()
    while not session.advance_for(math.inf).done:
        pass
    session.finish()
    return sorted(ours() - before)

for task, (spec, places) in json.loads(sys.stdin.read()).items():
    places = {k: Path(v) if k in PATHS and v else v for k, v in places.items()}
    child = os.fork()  # Each begins with what a worker has imported, and no more.
    if not child:
        print(json.dumps([task, train(spec, places)]), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, task
"""
PATHS = ("dataset", "checkpoints", "artifacts", "pretrained", "backbone", "code")
PRETRAININGS = ("diffusion", "hybrid", "supervised")


@pytest.mark.slow
def test_a_run_imports_nothing_of_ours_after_it_has_begun(tiny, tmp_path):
    source = tiny.spec("diffusion")
    asked = {}
    for task in (*PRETRAININGS, "finetune", "ledm"):
        later = task not in PRETRAININGS
        spec = tiny.spec(task, pretrained=source) if later else tiny.spec(task)
        trained = tmp_path / "diffusion" / "artifacts" if later else None
        places = asdict(tiny.places(tmp_path / task, task, trained))
        asked[task] = (spec.model_dump(mode="json"), places)
    done = subprocess.run(
        [sys.executable, "-c", f"PATHS = {PATHS!r}\n{RUNS}"],
        check=False,
        input=json.dumps(asked, default=str),
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = dict(map(json.loads, done.stdout.splitlines()))
    assert told == {task: [] for task in asked}
