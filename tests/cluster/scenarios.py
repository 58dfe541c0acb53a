"""What is done to a sweep on the laboratory's machines, and what came of it: for tests and for the record."""

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.lab import ADDRESSES, SHARED, Lab, wait_until
from tests.command_line import outcome
from tests.documents import document

STUDY = ("table2", "--scale", "smoke")
RUNS, VALUES = (
    180,
    165,
)  # Fifteen of the runs are pretrainings, the others a value of the table each.
UP_S, SWEEP_S, BAD_S = 300, 1200, 60
DISTURBED_AT = 50  # Runs that are finished when something happens to the rest.
NOTICED_S = 90  # By when Ray takes a silent machine for lost; 65 s were measured.
DRIVER = "hdsweep/.venv/bin/hdsweep run"
KILLED = 128 + 9

Done = subprocess.CompletedProcess[str]


@dataclass
class Outcome:
    """One sweep: what happened to it, and how it ended."""

    name: str
    what: str
    seconds: float = 0.0
    """From the first submission to the end of the last."""
    statuses: list[int] = field(default_factory=list)
    """Exit statuses of `cluster submit`."""
    summary: dict[str, int] = field(default_factory=dict)
    """What `run --json` said at its end."""
    nodes: dict[str, int] = field(default_factory=dict)
    """Runs by the machine that finished them, as MLflow has it."""
    again: int = 0
    """Runs that took more than one attempt."""
    redone: int = 0
    """Updates of those attempts, if each had come to its end: an upper bound."""
    updates: int = 0
    """Updates of all runs."""
    values: int = 0
    """Values in the table."""
    identical: bool = False
    """Whether `table.json` is that of one machine, but for when and how it was made."""


def hdsweep(lab: Lab, *arguments: str, timeout: float = SWEEP_S) -> Done:
    """Run `hdsweep` on the laptop, whatever comes of it."""
    return lab.laptop.run(
        sys.executable, "-m", "orchestrator.cli", *arguments, check=False, timeout=timeout
    )


def up(lab: Lab, file: str, *options: str) -> tuple[Done, float]:
    """Run `cluster up`; return what it said and how long it took."""
    start = time.monotonic()
    done = hdsweep(lab, "cluster", "up", file, *options, timeout=UP_S + 300)
    return done, time.monotonic() - start


def joined(done: Done) -> dict[str, int]:
    """Return the seconds after which each worker joined, by address, as `up` said."""
    lines = re.findall(r"^(\S+) joined after (\d+) s", done.stderr, re.MULTILINE)
    return {address: int(seconds) for address, seconds in lines}


def alone(lab: Lab) -> bytes:
    """Run the study on the laptop, without a cluster, and return its table."""
    done = hdsweep(lab, "run", *STUDY, "--home", f"{SHARED}/alone", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    return table(lab.shared / "alone")


def table(home: Path) -> bytes:
    """Return the table of the one sweep in a home."""
    (path,) = home.glob("artifacts/*/artifacts/table/table.json")
    return json.dumps(outcome(path.read_text())).encode()


def undisturbed(lab: Lab, file: str, reference: bytes) -> Outcome:
    """Run the whole study on the cluster."""
    outcome = Outcome("undisturbed", "nothing")
    return _ended(lab, outcome, reference, lambda: _submit(lab, file, outcome))


def cut_for(lab: Lab, file: str, reference: bytes, seconds: float) -> Outcome:
    """Cut the network of one worker for a while."""
    outcome = Outcome(
        f"cut-{seconds:.0f}", f"network of gpu-1 cut, given back after {seconds:.0f} s"
    )

    def cut() -> None:
        lab.unplug("gpu-1")
        time.sleep(seconds)
        lab.plug_in("gpu-1")

    return _ended(lab, outcome, reference, lambda: _submit(lab, file, outcome, cut))


def driver_killed(lab: Lab, file: str, reference: bytes) -> Outcome:
    """Kill the driver on the head, and submit the same again."""
    outcome = Outcome("driver", "driver killed (SIGKILL), submitted again")

    def kill() -> None:
        lab["head"].shell(f"kill -KILL $(pgrep -f '^[^ ]*python[^ ]* [^ ]*{DRIVER}')")

    def twice() -> None:
        _submit(lab, file, outcome, kill)
        _submit(lab, file, outcome)

    return _ended(lab, outcome, reference, twice)


def worker_lost(lab: Lab, file: str, reference: bytes) -> Outcome:
    """Switch one worker off for good."""
    outcome = Outcome("lost", "gpu-2 switched off, not replaced")
    return _ended(
        lab,
        outcome,
        reference,
        lambda: _submit(lab, file, outcome, lab["gpu-2"].power_off),
    )


def nodes_alive(lab: Lab, file: str) -> set[str]:
    """Return the addresses of the nodes, as `cluster status` tells them."""
    done = hdsweep(lab, "cluster", "status", file, "--json")
    return {node["address"] for node in document(done.stdout)["nodes"]} if done.stdout else set()


def wait_for_nodes(lab: Lab, file: str, *names: str) -> float:
    """Wait until the cluster consists of these machines; return for how long."""
    wanted = {ADDRESSES[name] for name in names}
    return wait_until(lambda: nodes_alive(lab, file) == wanted, f"{names} alone", UP_S)


def ray_processes(lab: Lab, name: str) -> list[str]:
    """Return the processes of Ray on a machine."""
    found = lab[name].run("pgrep", "-a", "raylet|gcs_server", check=False).stdout
    return found.splitlines()


def _submit(
    lab: Lab, file: str, outcome: Outcome, disturb: Callable[[], None] | None = None
) -> None:
    """Submit the study, do something in the middle, and follow it to its end."""
    home, log = lab.shared / outcome.name, lab.shared / f"{outcome.name}.log"
    command = ("-m", "orchestrator.cli", "cluster", "submit", file, "--", "run", *STUDY, "--json")
    job = lab.laptop.start(
        *(sys.executable, *command, "--home", f"{SHARED}/{outcome.name}"), output=log
    )
    if disturb is not None:
        wait_until(lambda: _finished(home) >= DISTURBED_AT, "half a sweep", SWEEP_S)
        assert job.poll() is None, log.read_text()[-3000:]
        disturb()
    outcome.statuses.append(job.wait(SWEEP_S))
    ends = re.findall(r'^\{"planned".*\}$', log.read_text(), re.MULTILINE)
    outcome.summary = json.loads(ends[-1]) if ends else {}


def _ended(lab: Lab, outcome: Outcome, reference: bytes, sweep: Callable[[], None]) -> Outcome:
    """Do a sweep, and fill in what came of it."""
    start = time.monotonic()
    sweep()
    outcome.seconds = time.monotonic() - start
    home = lab.shared / outcome.name
    outcome.nodes, attempts = _tracked(home)
    for key, (updates, resumed_at) in _updates(home).items():
        outcome.updates += updates
        outcome.again += attempts[key] > 1
        outcome.redone += (attempts[key] - 1) * (updates - resumed_at)
    found = table(home)
    outcome.values = sum(len(cell["values"]) for cell in json.loads(found)["cells"])
    outcome.identical = found == reference
    return outcome


def _finished(home: Path) -> int:
    return len(list(home.glob("artifacts/*/artifacts/result.json")))


def _tracked(home: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Return runs by machine, and attempts by key, from the tracking database."""
    with closing(sqlite3.connect(f"file:{home / 'mlflow.db'}?mode=ro", uri=True)) as database:
        query = "select run_uuid, key, value from tags where key like 'hdsweep.%'"
        tags: dict[str, dict[str, str]] = {}
        for run, name, value in database.execute(query):
            tags.setdefault(run, {})[name.removeprefix("hdsweep.")] = value
    runs = [each for each in tags.values() if "node" in each]
    return (
        dict(sorted(Counter(run["node"] for run in runs).items())),
        {run["key"]: int(run["attempt"]) for run in runs},
    )


def _updates(home: Path) -> dict[str, tuple[int, int]]:
    """Return the updates of each finished run and at which it was resumed, by key."""
    results = [json.loads(p.read_text()) for p in home.glob("artifacts/*/artifacts/result.json")]
    return {each["key"]: (each["updates"], each["resumed_at"] or 0) for each in results}


@dataclass(frozen=True)
class Mistake:
    """What keeps a worker from joining, and what `up` has to say of it."""

    name: str
    make: Callable[[Lab], object]
    mend: Callable[[Lab], object]
    line: str


KEYS = "~/.ssh/authorized_keys"
MISTAKES = (
    Mistake(
        "wrong key",
        lambda lab: lab["gpu-1"].shell(f"mv {KEYS} {KEYS}.aside"),
        lambda lab: lab["gpu-1"].shell(f"mv {KEYS}.aside {KEYS}"),
        f"{ADDRESSES['gpu-1']}: no SSH from the head: "
        f"root@{ADDRESSES['gpu-1']}: Permission denied (publickey).",
    ),
    Mistake(
        "no sshd",
        lambda lab: lab["gpu-2"].stop_sshd(),
        lambda lab: lab["gpu-2"].start_sshd(),
        f"{ADDRESSES['gpu-2']}: no SSH from the head: ssh: connect to host {ADDRESSES['gpu-2']} "
        "port 22: Connection refused",
    ),
    Mistake(
        "wrong token",
        lambda lab: lab["gpu-1"].shell("sed -i '1i export RAY_AUTH_TOKEN=another' ~/.bashrc"),
        lambda lab: lab["gpu-1"].shell("sed -i /RAY_AUTH_TOKEN=another/d ~/.bashrc"),
        f"{ADDRESSES['gpu-1']}: its Ray token is not that of the head",
    ),
)
