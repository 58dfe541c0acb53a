"""Table 2 at smoke scale on three machines, left alone and disturbed: `python -m tests.cluster.drill OUT`.

    alone    a single machine, for comparison
    whole    `hdsweep cluster up`, then `submit -- run table2`, and nothing happens
    cut      a worker's network is cut in the middle for 90 s, and given back
    driver   the driver on the head is killed in the middle, and the same command submitted again
    gone     a worker loses its power in the middle, and is not replaced

Each must end with 165 of 165 and the table of the single machine, to the last bit. What happened goes into
OUT/drill.json and OUT/drill.md. Takes 20 minutes on two cores; needs what `lab` needs.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster.lab import HEAD, SHARED, WORKERS, Lab, laboratory, wait_until, why_not

TABLE2 = ("table2", "--scale", "smoke")
HDSWEEP = ("/root/hdsweep/.venv/bin/python", "-m", "orchestrator.cli")
IN_THE_MIDDLE = 60  # Runs of 180 that are finished when something happens.
CUT_SECONDS = 90.0  # Ray takes a node for dead after 65.
PATIENCE_S = 1200.0


@dataclass
class Report:
    """What became of one sweep."""

    name: str
    exit_codes: list[int] = field(default_factory=list)
    seconds: float = 0.0
    summary: dict[str, Any] = field(default_factory=dict)
    runs_by_node: dict[str, int] = field(default_factory=dict)
    cells: int = 0
    identical: bool = False

    @property
    def good(self) -> bool:
        """Whether it ended as it must."""
        return self.identical and self.exit_codes[-1] == 0 and self.cells == 165


def main(out: Path) -> int:
    """Do all of it, write down what happened, and return the exit status."""
    reason = why_not()
    if reason is not None:
        print(f"not here: {reason}")
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="hdsweep-lab-", dir="/tmp") as folder,
        laboratory(Path(folder)) as lab,
    ):
        reports, joined = _sweeps(lab)
    out.mkdir(parents=True, exist_ok=True)
    record = {"joined": joined, "sweeps": [asdict(each) for each in reports]}
    (out / "drill.json").write_text(json.dumps(record, indent=1) + "\n")
    (out / "drill.md").write_text(_rendered(reports, joined))
    return int(not all(each.good for each in reports))


def _sweeps(lab: Lab) -> tuple[list[Report], str]:
    file = lab.cluster_file()
    reports = [_alone(lab)]
    up = lab.laptop.run(*HDSWEEP, "cluster", "up", file)
    joined = [line for line in up.stderr.splitlines() if "joined" in line]
    print("\n".join(joined), flush=True)
    for name, disturb in DISTURBANCES.items():
        report = _disturbed(lab, file, name, disturb)
        print(report, flush=True)
        reports.append(report)
    lab.laptop.run(*HDSWEEP, "cluster", "down", file, check=False)
    return reports, "; ".join(joined)


def _alone(lab: Lab) -> Report:
    """Run on the laptop, as on any single machine."""
    start, home = time.monotonic(), f"{SHARED}/alone"
    done = lab.laptop.run(
        *HDSWEEP, "run", *TABLE2, "--home", home, "--workers", "2", "--json", timeout=PATIENCE_S
    )
    report = Report("alone", [done.returncode], time.monotonic() - start)
    return _looked_at(lab, report, done.stdout)


def _disturbed(lab: Lab, file: str, name: str, disturb: Callable[[Lab], None] | None) -> Report:
    """Submit a sweep, disturb it in the middle, and submit it again if that ended it."""
    report, start = Report(name), time.monotonic()
    output = lab.shared / f"{name}.log"
    while not report.exit_codes or (report.exit_codes[-1] and len(report.exit_codes) < 3):
        sweep = ("run", *TABLE2, "--home", f"{SHARED}/{name}", "--json")
        job = lab.laptop.start(*HDSWEEP, "cluster", "submit", file, "--", *sweep, output=output)
        if disturb is not None and not report.exit_codes:
            _wait_for_the_middle(output)
            disturb(lab)
        report.exit_codes.append(job.wait(PATIENCE_S))
    report.seconds = time.monotonic() - start
    return _looked_at(lab, report, output.read_text())


def _wait_for_the_middle(output: Path) -> None:
    middle = f" {IN_THE_MIDDLE}/180 "
    wait_until(lambda: middle in output.read_text(), "the middle", PATIENCE_S)


def _looked_at(lab: Lab, report: Report, output: str) -> Report:
    """Add what the home of a sweep has to say."""
    home = f"{SHARED}/{report.name}"
    lines = [line for line in output.splitlines() if line.startswith('{"planned"')]
    report.summary = json.loads(lines[-1]) if lines else {}
    told = lab.laptop.run(*HDSWEEP, "report", *TABLE2, "--home", home, "--json").stdout
    cells = json.loads(told.splitlines()[-1])
    report.cells = sum(value is not None for cell in cells for value in cell["values"].values())
    results = (lab.shared / report.name).glob("artifacts/*/artifacts/result.json")
    nodes = Counter(json.loads(each.read_text())["environment"]["node"] for each in results)
    report.runs_by_node = dict(sorted(nodes.items()))
    compared = lab.laptop.run(*HDSWEEP, "compare", f"{SHARED}/alone", home, check=False)
    report.identical = "every value is the same to the last bit" in compared.stdout
    return report


def _cut(lab: Lab) -> None:
    lab.unplug(WORKERS[0])
    time.sleep(CUT_SECONDS)
    lab.plug_in(WORKERS[0])


def _kill_driver(lab: Lab) -> None:
    lab[HEAD].run("pkill", "-KILL", "-f", "hdsweep run table2")


def _power_off(lab: Lab) -> None:
    lab[WORKERS[1]].power_off()


DISTURBANCES: dict[str, Callable[[Lab], None] | None] = {
    "whole": None,
    "cut": _cut,
    "driver": _kill_driver,
    "gone": _power_off,
}


def _rendered(reports: list[Report], joined: str) -> str:
    lines = [
        "# Table 2 at smoke scale on three machines, disturbed",
        "",
        f"`python -m tests.cluster.drill`, {datetime.now(UTC):%Y-%m-%d}. {joined}.",
        "",
        "| sweep | exit | seconds | runs by machine | updates done again | cells | table |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in reports:
        nodes = ", ".join(f"{node} {count}" for node, count in each.runs_by_node.items())
        exits = ", ".join(map(str, each.exit_codes))
        same = "identical" if each.identical else "DIFFERS"
        redone = each.summary.get("updates_redone", "")
        row = (each.name, exits, f"{each.seconds:.0f}", nodes, redone, each.cells, same)
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/results/cluster")))
