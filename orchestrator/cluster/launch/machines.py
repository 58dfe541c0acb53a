"""Starting and stopping the machines of a cluster file, by Ray's own launcher.

`ray up` returns when the head runs: workers are set up by the head afterwards, and one that cannot join
says so only in a log there. `up` waits for them. `ray down` asks the head alone to stop, and on machines of
one's own says that all is well whatever came of it; `down` stops the workers too, and looks.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from orchestrator.cluster.launch.cluster_file import problems
from orchestrator.cluster.launch.head import Cluster, Head
from orchestrator.cluster.session.token import private_token
from orchestrator.errors import HdsweepError, InputError
from orchestrator.process.stopping import Say
from orchestrator.wording import in_short

ALIVE = ("PENDING", "RUNNING")  # States of a job that has not ended.
MONITOR = "/tmp/ray/session_latest/logs/monitor*"


class IncompleteError(HdsweepError):
    """Not all machines did what they were asked to."""


def up(cluster: Cluster, *, seconds: float, restart: bool, say: Say) -> None:
    """Start a cluster, or bring it up to date, and wait until its workers have joined.

    Args:
        seconds: how long to wait for workers once the head is up.
        restart: also if jobs run, which end with Ray.
        say: prints one line for people.

    Raises:
        InputError: if there is something to mend in the file, or jobs run.
        HdsweepError: if the head could not be started.
        IncompleteError: if workers are missing at the deadline, naming each and the reason.
    """
    found = problems(cluster.file)
    if found:
        raise InputError("\n".join(f"{cluster.file}: {problem}" for problem in found))
    private_token()
    if cluster.is_local:
        Head(cluster).require_login()
    if not restart:
        _require_no_jobs(cluster)
    if _ray(cluster, "up", "--no-config-cache"):
        raise HdsweepError(f"{cluster.file}: `ray up` could not start the head, see above")
    head = Head(cluster)
    if not cluster.least_workers:
        say(f"head {head.address} is up; workers come when there is something to do")
        return
    say(f"head {head.address} is up; waiting for {cluster.least_workers} workers")
    _wait(cluster, head, seconds, say)


def down(cluster: Cluster, say: Say) -> None:
    """Stop a cluster, and say what was stopped.

    Raises:
        IncompleteError: if Ray still runs on one of one's own machines, naming it.
    """
    head, nodes, jobs = _what_runs(cluster)
    if _ray(cluster, "down"):
        raise HdsweepError(f"{cluster.file}: `ray down` failed, see above")
    if cluster.is_local and head is not None:
        left = head.ask("stop_workers", workers=cluster.workers)["failed"]
        if left:
            named = "; ".join(f"{address}: {reason}" for address, reason in left.items())
            raise IncompleteError(f"workers of {cluster.file} were not stopped: {named}")
    say(f"stopped: {in_short(nodes, most=len(nodes))}" if nodes else "no Ray was running")
    for job in jobs:
        say(f"job `{job}` was running: submitted again, it goes on where it stopped")


def resources(node: Mapping[str, Any]) -> str:
    """Return what runs can be put on, as people read it."""
    gpus = f", {node['gpus']:g} GPU" if node["gpus"] else ""
    return f"{node['cpus']:g} CPU{gpus}"


def _wait(cluster: Cluster, head: Head, seconds: float, say: Say) -> None:
    missing: dict[str, str] = {}
    for answer in head.listen(
        "wait", workers=cluster.workers, least=cluster.least_workers, seconds=seconds
    ):
        if "joined" in answer:
            node = answer["joined"]
            say(f"{node['address']} joined after {answer['seconds']:.0f} s: {resources(node)}")
            missing.pop(node["address"], None)
        for address, reason in answer.get("missing", {}).items():
            missing[address] = reason
            say(f"{address} has not joined yet: {reason}")
        if not answer.get("complete", True):
            raise _incomplete(cluster, answer, missing, seconds, say)
    say("all workers have joined")


def _incomplete(
    cluster: Cluster,
    answer: Mapping[str, Any],
    missing: Mapping[str, str],
    seconds: float,
    say: Say,
) -> IncompleteError:
    say(f"the end of {MONITOR} on the head:")
    for line in answer["monitor"]:
        say(f"  {line}")
    named = "".join(f"; {address}: {reason}" for address, reason in missing.items())
    return IncompleteError(
        f"{answer['have']} of {cluster.least_workers} workers of {cluster.file} joined within "
        f"{seconds:g} s{named}",
        hint="the head goes on trying: mend it, and look with `hdsweep cluster status`",
    )


def _require_no_jobs(cluster: Cluster) -> None:
    """Raise an InputError if a job runs, which `ray up` would end together with Ray."""
    _, _, jobs = _what_runs(cluster)
    if jobs:
        raise InputError(
            f"job `{jobs[0]}` runs on the cluster of {cluster.file}, and would end",
            hint="wait for it, or restart Ray nonetheless with `--restart`",
        )


def _what_runs(cluster: Cluster) -> tuple[Head | None, list[str], list[str]]:
    """Return the head, the addresses of nodes and the names of jobs that have not ended."""
    head = None
    try:
        head = Head(cluster)
        found = head.ask("status")
    except HdsweepError:
        return head, [], []  # No machine, no Ray, or no hdsweep there yet.
    nodes = [f"{'head ' if node['head'] else ''}{node['address']}" for node in found["nodes"]]
    return head, nodes, [job["job"] for job in found["jobs"] if job["state"] in ALIVE]


def _ray(cluster: Cluster, verb: str, *options: str) -> int:
    """Run Ray's launcher, which talks to standard error, and return its exit status."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    if cluster.is_local:
        # With version 2, one of two workers never joined (Ray 2.60).
        environment["RAY_UP_enable_autoscaler_v2"] = "0"
    launcher = [sys.executable, "-P", "-m", "ray.scripts.scripts", verb, "-y", *options]
    done = subprocess.run(
        [*launcher, "--log-style=pretty", str(cluster.file)],
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    return done.returncode
