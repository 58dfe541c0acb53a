"""The keys of table2 at paper scale, as a golden file: whoever moves them, sees it here."""

import difflib
import os
from pathlib import Path

from orchestrator.plan.plan import load_plan

GOLDEN = Path(__file__).parents[1] / "golden" / "table2_paper.txt"


def test_no_key_of_the_paper_moved():
    plan = load_plan("table2")
    lines = [f"{run.key}  {run.label}" for run in plan.runs]
    if os.environ.get("HDSWEEP_ACCEPT"):
        GOLDEN.write_text("\n".join(lines) + "\n")
    before = GOLDEN.read_text().splitlines()
    changes = "\n".join(difflib.unified_diff(before, lines, "golden", "now", lineterm="", n=0))
    assert not changes, (
        f"finished runs with the old keys would not be reused:\n{changes}\n"
        "if that is intended, accept with: HDSWEEP_ACCEPT=1 pytest tests/orchestrator"
    )
