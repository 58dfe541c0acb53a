"""What does the orchestration cost per run, next to a plain Ray Tune grid?

The whole of Table 2 at smoke scale, 180 runs, twice in one go on the same machine: by `hdsweep run`,
and as two plain Tune grids (Tune knows no dependencies: all pretrainings, then all fine-tunings) of
function trainables with `MLflowLoggerCallback`, which train the same specs by the same
`trainables.execute`. Overhead is the wall time per run beyond the training itself:

    (wall time, the start of Ray included - sum of training seconds / workers) / runs

    python benchmarks/overhead.py            # minutes; writes benchmarks/results/overhead.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from recording import asked, keep

SCALE = "smoke"


def main() -> None:
    arguments = parsed()
    with tempfile.TemporaryDirectory() as folder:
        ours = hdsweep(Path(folder) / "home", arguments)
        plain = plain_tune(Path(folder) / "home", Path(folder) / "plain", arguments)
    figures = {
        "workers": arguments.workers,
        "hdsweep": ours,
        "plain_tune": plain,
        "ratio": round(plain["overhead_per_run"] / ours["overhead_per_run"], 1),
    }
    keep("overhead", figures, dry_run=arguments.dry_run)


def parsed() -> argparse.Namespace:
    parser = asked(__doc__)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--methods", default="all", help="fewer rows for a quick look")
    return parser.parse_args()


def hdsweep(home: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the sweep as a user does and return its overhead."""
    command = [sys.executable, "-m", "orchestrator.cli", "run", "table2", "--scale", SCALE]
    options = ["--home", str(home), "--workers", str(arguments.workers), "--progress", "none"]
    rows = ["--methods", arguments.methods, "--json"]
    started = time.time()
    done = subprocess.run(
        [*command, *options, *rows],
        check=True,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    whole = time.time() - started
    summary = json.loads(done.stdout.splitlines()[-1])
    results = [
        json.loads(p.read_text(encoding="utf-8"))
        for p in home.glob("artifacts/*/artifacts/result.json")
    ]
    training = sum(result["seconds"] for result in results)
    return overhead(summary["seconds"], training, summary["finished"], arguments.workers, whole)


def plain_tune(home: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the same specs as two grids of function trainables and return their overhead."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    from orchestrator.plan.plan import load_plan

    plan = load_plan("table2", scale=SCALE, home=home, methods=arguments.methods)
    started = time.time()
    ray.init(
        address="local",
        num_cpus=arguments.workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    seconds: list[float] = []
    for stage in (True, False):
        grid = [configuration(run, folder) for run in plan.runs if run.pretraining is stage]
        callback = MLflowLoggerCallback(
            tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="plain"
        )
        folder.mkdir(exist_ok=True)
        results = tune.Tuner(
            train,
            param_space={"run": tune.grid_search(grid)},
            run_config=tune.RunConfig(
                storage_path=str(folder / "tune"), callbacks=[callback], verbose=0
            ),
        ).fit()
        assert not results.errors, results.errors[0]
        seconds += [result.metrics["seconds"] for result in results]
    wall = time.time() - started
    ray.shutdown()
    return overhead(wall, sum(seconds), len(seconds), arguments.workers, wall)


def configuration(run: Any, folder: Path) -> dict[str, Any]:
    """Return what one plain trial is told."""
    return {
        "spec": run.spec.model_dump(mode="json"),
        "dataset": str(run.dataset_folder),
        "folder": str(folder / "runs" / run.key),
        "pretrained": str(folder / "runs" / run.needs / "artifacts") if run.needs else None,
    }


def train(config: dict[str, Any]) -> None:
    """Train one spec: the function trainable of the plain grid."""
    from ray import tune

    from trainables.config import RunSpec
    from trainables.execute import execute
    from trainables.loop import Places

    run = config["run"]
    places = Places(
        dataset=Path(run["dataset"]),
        checkpoints=Path(run["folder"]) / "checkpoints",
        artifacts=Path(run["folder"]) / "artifacts",
        pretrained=Path(run["pretrained"]) if run["pretrained"] else None,
    )
    result = execute(RunSpec.model_validate(run["spec"]), places)
    tune.report({**result.metrics, "seconds": result.seconds})


def overhead(
    wall: float, training: float, runs: int, workers: int, whole: float
) -> dict[str, float]:
    """Return the figures of one way of running."""
    return {
        "runs": runs,
        "wall_seconds": round(wall, 1),
        "whole_command_seconds": round(whole, 1),
        "training_seconds": round(training, 1),
        "overhead_per_run": round((wall - training / workers) / runs, 3),
    }


if __name__ == "__main__":
    main()
