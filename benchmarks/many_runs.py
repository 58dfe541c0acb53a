"""How long do `status` and `report` take beside ten thousand stored runs?

A home with a study of that many finished runs, stored by the store itself from artifacts made up here
(histories, counts of 40 test images each, no weights), and in it the two commands as a user gives
them: for the whole study, and for its first three seeds.

    python benchmarks/many_runs.py           # ten minutes; writes benchmarks/results/many_runs.json
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from recording import asked, keep

from orchestrator.plan.plan import Plan, PlannedRun, load_plan
from orchestrator.store.home.home import open_home
from orchestrator.store.store import Store
from trainables.metrics import empty
from trainables.metrics.per_image import write_image_counts

IMAGES, SIDE, EPOCHS = 40, 16, 60
CELLS, PRETRAININGS = 55, 15
TABLE2 = Path(__file__).parents[1] / "orchestrator" / "studies" / "table2.toml"
THREE = "seeds = [0, 1, 2]"


def main() -> None:
    arguments = parsed()
    seeds = -(-(arguments.runs - PRETRAININGS) // CELLS)
    with tempfile.TemporaryDirectory() as folder:
        study, home = Path(folder) / "many.toml", Path(folder) / "home"
        study.write_text(
            TABLE2.read_text(encoding="utf-8").replace(THREE, f"seeds = {list(range(seeds))}"),
            encoding="utf-8",
        )
        plan = load_plan(str(study), scale="smoke", home=home)
        started = time.monotonic()
        fill(plan, home)
        figures = {
            "runs": len(plan.runs),
            "to_store_one_run_s": round((time.monotonic() - started) / len(plan.runs), 4),
            "status_three_seeds_s": taken("status", study, home, ["--seeds", "0,1,2"]),
            "report_three_seeds_s": taken("report", study, home, ["--seeds", "0,1,2"]),
            "status_all_seeds_s": taken("status", study, home, []),
            "report_all_seeds_s": taken("report", study, home, []),
        }
    keep("many_runs", figures, dry_run=arguments.dry_run)


def parsed() -> argparse.Namespace:
    parser = asked(__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    return parser.parse_args()


def fill(plan: Plan, folder: Path) -> None:
    """Store every run of a plan as finished."""
    with Store.open(open_home(folder)) as store:
        store.begin_sweep(plan)
        for run in plan.runs:
            attempt = store.start(run)
            leave(run, attempt.artifacts)
            store.commit(run.key, attempt)


def leave(run: PlannedRun, artifacts: Path) -> None:
    """Leave what a worker leaves, with made-up numbers."""
    (artifacts / "spec.json").write_text(run.spec.model_dump_json(), encoding="utf-8")
    metrics = {}
    if not run.pretraining:
        each = made_up_counts(run)
        write_image_counts(
            artifacts / "test_images.arrow", [f"{i:03}" for i in range(IMAGES)], each
        )
        total = each[0]
        for counts in each[1:]:
            total = total.merge(counts)
        metrics = {f"test_{name}": value for name, value in total.compute().items()}
    names = ("loss", f"val_{run.spec.dataset.metric}")
    history = [[name, step, 1.0 / step, step] for step in range(1, EPOCHS) for name in names]
    files = {
        path.name: {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in artifacts.iterdir()
    }
    result = {
        "version": 1,
        "key": run.key,
        "metrics": metrics,
        "updates": EPOCHS,
        "seconds": 1.0,
        "history": history,
        "artifacts": files,
        "environment": {"python": "3", "device": "cpu"},
    }
    (artifacts / "result.json").write_text(json.dumps(result), encoding="utf-8")


def made_up_counts(run: PlannedRun) -> list:
    ref = run.spec.dataset
    rng = np.random.default_rng(int(run.key, 16) % 2**32)
    labels = torch.from_numpy(rng.integers(0, ref.classes, (2, IMAGES, SIDE, SIDE)))
    nothing = empty(ref.metric, ref.classes)
    return [nothing.add(labels[0, i : i + 1], labels[1, i : i + 1]) for i in range(IMAGES)]


def taken(command: str, study: Path, home: Path, filters: list[str]) -> float:
    """Return the wall time of a command, the start of Python included."""
    told = [str(study), "--scale", "smoke", "--home", str(home), *filters]
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", command, *told], check=True, capture_output=True
    )
    return round(time.monotonic() - started, 1)


if __name__ == "__main__":
    main()
