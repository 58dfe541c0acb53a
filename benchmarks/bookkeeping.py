"""What does it cost the driver to write down a run, with and without what MLflow is told of its dataset?

The 180 runs of Table 2 at smoke scale are begun and recorded in a home of their own, their results made up, once with
`log_inputs` and once without. In processor time of the driver, which other work on the machine changes little:
what `overhead.py` measures in wall time has the training's processes in it, and Ray's.

    python benchmarks/bookkeeping.py            # minutes; writes benchmarks/results/bookkeeping.json
"""

import hashlib
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from recording import asked, keep

from orchestrator.plan.plan import PlannedRun, load_plan
from orchestrator.store.book import Book
from orchestrator.store.home.attempts import Attempt
from orchestrator.store.home.home import open_home
from orchestrator.store.store import Store

SPEC = "spec.json"
ROUNDS = 5  # Of each, in turns.


def main() -> None:
    arguments = asked(__doc__).parse_args()
    note = Book.note_dataset
    ways = {"with_dataset": note, "without": lambda _, known, __: known}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    per_run()  # What MLflow loads at its first use.
    for _ in range(ROUNDS):
        for name, way in ways.items():
            Book.note_dataset = way  # type: ignore[method-assign, assignment]
            spent[name].append(per_run())
    middle = {name: statistics.median(each) for name, each in spent.items()}
    figures = {
        "cpu_ms_per_run": middle,
        "dataset_cpu_ms": round(middle["with_dataset"] - middle["without"], 1),
        "rounds": spent,
    }
    keep("bookkeeping", figures, dry_run=arguments.dry_run)


def per_run() -> float:
    """Store every run of the plan in a fresh home; return milliseconds of processor time for each."""
    plan = load_plan("table2", scale="smoke")
    with tempfile.TemporaryDirectory() as folder, Store.open(open_home(Path(folder))) as store:
        store.begin_sweep(plan)
        spent = 0.0
        for run in plan.runs:
            began = time.process_time()
            attempt = store.start(run)
            spent += time.process_time() - began
            leave(attempt, run)
            began = time.process_time()
            store.commit(run.key, attempt)
            spent += time.process_time() - began
    return round(1000 * spent / len(plan.runs), 1)


def leave(attempt: Attempt, run: PlannedRun) -> None:
    """Leave what a worker leaves."""
    attempt.artifacts.mkdir(parents=True, exist_ok=True)
    spec = run.spec.model_dump_json().encode()
    (attempt.artifacts / SPEC).write_bytes(spec)
    record = {"sha256": hashlib.sha256(spec).hexdigest(), "bytes": len(spec)}
    result: dict[str, Any] = {
        "key": attempt.key,
        "attempt": attempt.number,
        "metrics": {"test_jaccard": 50.0, "best_val": 50.0},
        "updates": 2,
        "seconds": 0.1,
        "history": [["loss", 1, 0.5, 1000], ["loss", 2, 0.25, 2000]],
        "artifacts": {SPEC: record},
        "environment": {"torch": "none", "device": "cpu"},
    }
    (attempt.artifacts / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
