"""Everything of test_cluster once, written down: `python -m tests.cluster.demonstrate`, as root, half an hour.

Writes docs/results/cluster/README.md: what was run, seconds until the workers joined, runs by machine, whether
the table is that of one machine, what was done again, and what mistakes were told as.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from tests.cluster import scenarios
from tests.cluster.lab import CHANGES, HEAD, ROOT, WORKERS, Lab, laboratory, why_not
from tests.cluster.scenarios import MISTAKES, NOTICED_S, RUNS, VALUES, Outcome, hdsweep, up

FOLDER = ROOT / "docs" / "results" / "cluster"
MINUTE_S = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    out = parser.parse_args().out
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hdsweep-lab-") as folder:
        start = time.monotonic()
        with laboratory(Path(folder)) as lab:
            record = _run(lab)
        record["seconds"] = time.monotonic() - start
    (out / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    (out / "README.md").write_text(_page(record))
    print(out / "README.md")
    good = all(each["identical"] and each["values"] == VALUES for each in record["sweeps"])
    return int(not good)


def _run(lab: Lab) -> dict:
    """Do everything, in the order of test_cluster, and return what came of it."""
    file = lab.cluster_file()
    record: dict = {"mistakes": [_mistake(lab, file, each) for each in MISTAKES]}
    _say("up")
    done, seconds = up(lab, file)
    assert done.returncode == 0, done.stderr[-3000:]
    record["up"] = {"seconds": seconds, "joined": scenarios.joined(done)}
    record["status"] = hdsweep(lab, "cluster", "status", file).stdout
    _say("one machine")
    start = time.monotonic()
    reference = scenarios.alone(lab)
    record["alone_seconds"] = time.monotonic() - start
    sweeps: tuple[Callable[[], Outcome], ...] = (
        lambda: scenarios.undisturbed(lab, file, reference),
        lambda: scenarios.cut_for(lab, file, reference, 15),
        lambda: scenarios.cut_for(lab, file, reference, NOTICED_S),
        lambda: _all_back(lab, file, record) or scenarios.driver_killed(lab, file, reference),
        lambda: scenarios.worker_lost(lab, file, reference),
    )
    record["sweeps"] = []
    for sweep in sweeps:
        outcome = sweep()
        _say(f"{outcome}")
        record["sweeps"].append(asdict(outcome))
    _say("down")
    done = hdsweep(lab, "cluster", "down", file)
    record["down"] = {
        "said": _errors(done.stderr) or ["all stopped"],
        "left": [
            each for name in (HEAD, WORKERS[0]) for each in scenarios.ray_processes(lab, name)
        ],
    }
    return record


def _all_back(lab: Lab, file: str, record: dict) -> None:
    record["back_seconds"] = scenarios.wait_for_nodes(lab, file, HEAD, *WORKERS)


def _mistake(lab: Lab, file: str, mistake: scenarios.Mistake) -> dict:
    _say(mistake.name)
    mistake.make(lab)
    done, seconds = up(lab, file, "--wait", str(scenarios.BAD_S))
    mistake.mend(lab)
    said = _errors(done.stderr)
    assert any(mistake.line in line for line in said), done.stderr[-3000:]
    return {"name": mistake.name, "said": said, "seconds": seconds, "exit": done.returncode}


def _errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def _page(record: dict) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.strip()
    joins = ", ".join(f"{a} after {s} s" for a, s in record["up"]["joined"].items())
    changed = "\n".join(f"- {old.strip()}\n+ {new.strip()}" for old, new in CHANGES.items())
    rows = "\n".join(_row(each) for each in record["sweeps"])
    mistakes = "\n".join(
        f"* **{each['name']}**: after {each['seconds']:.0f} s in all, exit status {each['exit']}:\n"
        + "\n".join(f"  `{line}`" for line in each["said"])
        for each in record["mistakes"]
    )
    left = record["down"]["left"]
    return f"""# `ray up` for real, on three machines made of namespaces

Written by `python -m tests.cluster.demonstrate` on {time.strftime("%Y-%m-%d")} with commit `{commit}`: \
{os.cpu_count()} cores of a shared
{platform.machine()} server for all three machines together, Python {platform.python_version()}, Ray \
{version("ray")}; {record["seconds"] / MINUTE_S:.0f} minutes. Generated images: what is shown is that
sweeps survive, not how good a method is.

A head and two workers, each with a network, processes, mounts, a host name and an sshd of its own, one core
each, and a folder that they share. [on_prem.yaml](../../../cluster/on_prem.yaml), with this changed:

```diff
{changed}
```

The last, because there is no network to install from: the environment lies there already.

`hdsweep cluster up` took {record["up"]["seconds"]:.0f} s; {joins} (counted from when the head was up), \
with token authentication. Then
`hdsweep cluster submit FILE -- run table2 --scale smoke`, {RUNS} runs and {VALUES} values, once undisturbed and \
four times with something
happening after {scenarios.DISTURBED_AT} runs. The table is compared with that of `hdsweep run table2 --scale smoke` on \
one machine
({record["alone_seconds"]:.0f} s), byte by byte.

| in the middle | exit status | took | values | table identical | runs on head, gpu-1, gpu-2 | begun again | \
updates redone, at most |
| --- | --- | ---: | ---: | --- | --- | ---: | ---: |
{rows}

After the long cut Ray had taken gpu-1 for lost; all three machines were there again {record["back_seconds"]:.0f} s \
after that sweep.
`updates redone`: those of all attempts but the last, as if each had come to its end.

## Mistakes

Each made on one worker, then `hdsweep cluster up FILE --wait {scenarios.BAD_S}`:

{mistakes}

`hdsweep cluster down`, gpu-2 being off: `{record["down"]["said"][0]}`; Ray's processes left on the others: \
{len(left)}.

```console
$ hdsweep cluster status FILE
{record["status"].strip()}
```
"""


def _row(each: dict) -> str:
    nodes = ", ".join(str(each["nodes"].get(name, 0)) for name in (HEAD, *WORKERS))
    statuses = ", then ".join(map(str, each["statuses"]))
    identical = "yes" if each["identical"] else "**no**"
    return (
        f"| {each['what']} | {statuses} | {each['seconds']:.0f} s | {each['values']} of {VALUES} | {identical} "
        f"| {nodes} | {each['again']} | {each['redone']} of {each['updates']} |"
    )


if __name__ == "__main__":
    sys.exit(main())
