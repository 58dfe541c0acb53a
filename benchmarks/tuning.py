"""Does stopping early save pretraining without losing the best value?

At demo scale on generated images: an exhaustive grid of 12 values of lambda, none stopped, and TPE with
ASHA over the same range and as many trials, three times with other sampler seeds. Spent is counted in
pretraining updates, which are nearly all of what a search costs at the paper's scale; the found value
is compared in percent of the validation metric with what the seeds alone may differ by.

    python benchmarks/tuning.py            # half an hour on two cores; benchmarks/results/tuning.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from recording import asked, keep

VALUES = 12
SPACE = """
from dataclasses import replace
from search_spaces.mask_weight import SPACE as LAMBDA

GRID = tuple(10 ** (-5 + 5 * i / {last}) for i in range({count}))
SPACE = replace(LAMBDA, name="lambda_grid", grid={{"lambda": GRID}})
"""


def main() -> None:
    arguments = parsed()
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "lambda_grid.py"
        space.write_text(SPACE.format(count=VALUES, last=VALUES - 1), encoding="utf-8")
        # A home of its own for each, so that none profits from what another trained.
        grid = tune(
            str(space),
            Path(folder) / "grid",
            arguments,
            "--sampler",
            "grid",
            "--scheduler",
            "none",
        )
        searches = [
            tune("lambda", Path(folder) / str(seed), arguments, "--seed", str(seed))
            for seed in range(arguments.repetitions)
        ]
    figures = {
        "scale": arguments.scale,
        "grid": grid,
        "tpe_asha": searches,
        "updates_of_the_grid": [round(s["updates"] / grid["updates"], 3) for s in searches],
        "behind_the_grid": [round(grid["value"] - s["value"], 3) for s in searches],
        "spread_of_the_grids_best_over_seeds": grid["spread"],
    }
    keep("tuning", figures, dry_run=arguments.dry_run)


def parsed() -> argparse.Namespace:
    parser = asked(__doc__)
    parser.add_argument("--scale", default="demo")
    parser.add_argument("--targets", default="ph2")
    parser.add_argument("--repetitions", type=int, default=3)
    return parser.parse_args()


def tune(space: str, home: Path, arguments: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Make a search as a user does and return what it says."""
    command = [sys.executable, "-m", "orchestrator.cli", "tune", space, "--source", "isic2018"]
    told = ["--targets", arguments.targets, "--scale", arguments.scale, "--trials", str(VALUES)]
    done = subprocess.run(
        [*command, *told, *more, "--home", str(home), "--json"],
        check=True,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    found = json.loads(done.stdout.splitlines()[-1])
    kept = ("trials", "complete", "pruned", "best", "value", "spread", "updates", "seconds")
    return {name: found[name] for name in kept}


if __name__ == "__main__":
    main()
