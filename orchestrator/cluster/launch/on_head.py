"""What runs on the head of a cluster, asked over SSH: `python -m orchestrator.cluster.launch.on_head VERB JSON`.

Every answer is one line of JSON on standard output: `{"error": ...}` if there is none, `{"absent": true}` if
no Ray runs here. It ends when its standard input does, that is, with the connection. Ray is spoken to on the
loopback address, with the token of the user that logs in.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from orchestrator.cluster.launch.ssh import SSH_FAILED, last_line, ssh_command

Answers = Iterator[dict[str, Any]]
Done = subprocess.CompletedProcess[str]

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # The cluster file, as Ray left it here.
LOGS = Path("/tmp/ray/session_latest/logs")
PAUSE_S, EXPLAIN_EVERY_S = 2.0, 20.0
MOST_NODES = 10_000
MONITOR_LINES = 15
AT_ONCE = 32  # SSH connections.
SSH_SECONDS = 30
READY_SECONDS = 60  # For the services of a head that has just been started.
# What Ray would take for its token, in the shell in which it is started.
TOKEN_OF = 'printf %s "${RAY_AUTH_TOKEN:-$(cat "${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}")}"'
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
NOISE = re.compile(r"VV?INFO|closed\.$|^\s*$")


class NoAnswerError(Exception):
    """There is no answer, and here is why."""


def wait(workers: Sequence[str], least: int, seconds: float) -> Answers:
    """Tell of each node that joins, until there are enough; then, or at the deadline, why not.

    Args:
        workers: their addresses, where they are known.
        least: how many of them there have to be.
        seconds: how long to wait.
    """
    start, told, explained, reasons = time.monotonic(), set[str](), 0.0, dict[str, str]()
    while True:
        waited = time.monotonic() - start
        nodes = _nodes() if waited > READY_SECONDS else _nodes_if_ready()
        alive = {node["address"]: node for node in nodes if not node["head"]}
        for address in sorted(alive.keys() - told):
            yield {"joined": alive[address], "seconds": waited}
        told = set(alive)
        if len(told) >= least:
            yield {"complete": True}
            return
        late = waited >= seconds
        if workers and (late or waited >= explained + EXPLAIN_EVERY_S):
            found = _why_missing([address for address in workers if address not in told])
            explained = time.monotonic() - start
            yield {"missing": {a: r for a, r in found.items() if late or r != reasons.get(a)}}
            reasons = found
        if late:
            yield {"complete": False, "have": len(told), "monitor": _end_of_monitor_log()}
            return
        time.sleep(PAUSE_S)


def status() -> Answers:
    """Tell the nodes, the jobs, and what the autoscaler says of itself."""
    ray = Path(sys.executable).with_name("ray")
    said = subprocess.run(
        [ray, "status"], check=False, capture_output=True, encoding="utf-8", errors="replace"
    )
    yield {"nodes": _nodes(), "jobs": _jobs(), "autoscaler": said.stdout.strip()}


def jobs() -> Answers:
    """Tell the jobs, the newest first."""
    yield {"jobs": _jobs()}


def submit(job: str, arguments: Sequence[str], needs_home: bool) -> Answers:
    """Start `hdsweep` with these arguments as a job, in the environment of a login here."""
    home = os.environ.get("HDSWEEP_HOME")
    if needs_home and not home:
        raise NoAnswerError(
            "HDSWEEP_HOME is not set there: the machines need a home that they share"
        )
    keep = {"RAY_AUTH_MODE": "token", **({"HDSWEEP_HOME": home} if home else {})}
    hdsweep = str(Path(sys.executable).with_name("hdsweep"))
    variables = [f"{name}={value}" for name, value in keep.items()]
    # As after a login: relative paths begin at the home folder, not at one of Ray's.
    entrypoint = "cd && " + shlex.join(["exec", "env", *variables, hdsweep, *arguments])
    try:
        yield {"job": _client().submit_job(entrypoint=entrypoint, submission_id=job)}
    except RuntimeError as error:
        if "already exists" in str(error):
            raise NoAnswerError(f"there is a job named `{job}` already") from error
        raise


def follow(job: str, skip: int = 0, until_end: bool = True) -> Answers:
    """Tell what a job prints, from a number of characters on, and how it ended."""
    client = _client()
    if until_end:
        yield from _tail(client, job, skip)
    else:
        yield {"output": client.get_job_logs(job)[skip:]}
    info = client.get_job_info(job)
    yield {"state": str(info.status), "exit": info.driver_exit_code, "why": info.message}


def stop_workers(workers: Sequence[str]) -> Answers:
    """Stop Ray on workers, and tell where that failed."""
    if not BOOTSTRAP.expanduser().is_file():
        yield {"failed": {}}  # Nothing was ever started from here.
        return
    commands = [c for c in _bootstrap()["worker_start_ray_commands"] if "ray stop" in c]
    script = "; ".join(commands or ["ray stop"])
    # Whatever `ray stop` answers, what counts is whether a node is left.
    left = f"{{ {script}; }} >/dev/null 2>&1; ! pgrep -x raylet >/dev/null"
    done = _on_each(workers, left)
    yield {
        "failed": {
            a: last_line(each.stderr, "Ray runs on") for a, each in done.items() if each.returncode
        }
    }


def _nodes() -> list[dict[str, Any]]:
    """Return the nodes that are alive, the head first."""
    from ray.util.state import list_nodes

    # Chosen here: a filter of Ray's own fails once a node is dead, which it counts as left out.
    alive = [node for node in list_nodes(limit=MOST_NODES) if node.state == "ALIVE"]
    nodes = [
        {
            "address": node.node_ip,
            "head": node.is_head_node,
            "cpus": node.resources_total.get("CPU", 0),
            "gpus": node.resources_total.get("GPU", 0),
        }
        for node in alive
    ]
    return sorted(nodes, key=lambda node: (not node["head"], node["address"]))


def _nodes_if_ready() -> list[dict[str, Any]]:
    with contextlib.suppress(Exception):
        return _nodes()
    return []


def _client() -> Any:
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient("auto")


def _jobs() -> list[dict[str, Any]]:
    """Return the submitted jobs, the newest first."""
    submitted = [job for job in _client().list_jobs() if job.submission_id]
    submitted.sort(key=lambda job: job.start_time or 0, reverse=True)
    return [
        {
            "job": job.submission_id,
            "state": str(job.status),
            "exit": job.driver_exit_code,
            "started_ms": job.start_time,
            "ended_ms": job.end_time,
            "command": job.entrypoint,
        }
        for job in submitted
    ]


def _tail(client: Any, job: str, skip: int) -> Answers:
    """Yield what a job prints as it comes, without its first characters."""
    import asyncio

    lines: AsyncIterator[str] = client.tail_job_logs(job)
    with asyncio.Runner() as runner:
        while True:
            try:
                text = runner.run(_next(lines))
            except StopAsyncIteration:
                return
            fresh, skip = text[skip:], max(skip - len(text), 0)
            if fresh:
                yield {"output": fresh}


async def _next(lines: AsyncIterator[str]) -> str:
    return await anext(lines)


def _bootstrap() -> dict[str, Any]:
    """Return the cluster file as Ray's launcher left it here, for workers to be set up with."""
    config: dict[str, Any] = yaml.safe_load(BOOTSTRAP.expanduser().read_text(encoding="utf-8"))
    return config


def _why_missing(workers: Sequence[str]) -> dict[str, str]:
    """Return why workers have not joined, as far as can be found out from here."""
    log = _monitor_log()
    ours = subprocess.run(["bash", "-c", TOKEN_OF], check=False, capture_output=True).stdout
    digest = hashlib.sha256(ours).hexdigest()
    done = _on_each(workers, f"{TOKEN_OF} | sha256sum")
    return {address: _why(address, each, digest, log) for address, each in done.items()}


def _why(address: str, asked: Done, digest: str, log: Sequence[str]) -> str:
    if asked.returncode:
        return f"no SSH from the head: {last_line(asked.stderr)}"
    if not asked.stdout.startswith(digest):
        return "its Ray token is not that of the head"
    steps = [line for line in log if f"NodeUpdater: {address}: " in line]
    if not steps:
        return "the head has not begun to set it up"
    step = steps[-1].partition(f"{address}: ")[2].partition(" [LogTimer")[0]
    return step if "failed" in step else f"being set up ({step})"


def _on_each(workers: Sequence[str], script: str) -> dict[str, Done]:
    """Run a script on workers, in the shell in which Ray's launcher would."""
    auth = _bootstrap()["auth"]
    shell = f"bash --login -i -c {shlex.quote(f'source ~/.bashrc; {script}')}"

    def run(address: str) -> Done:
        command = ssh_command(auth, address, shell)
        try:
            return subprocess.run(
                command,
                check=False,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=SSH_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, SSH_FAILED, "", "no answer in time")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(workers, pool.map(run, workers), strict=True))


def _monitor_log() -> list[str]:
    """Return what the head's launcher of workers has printed, without what it repeats."""
    try:
        text = (LOGS / "monitor.out").read_text(errors="replace", encoding="utf-8")
    except OSError:
        return []
    lines = COLOURS.sub("", text).splitlines()
    return [line for line in lines if not NOISE.search(line)]


def _end_of_monitor_log() -> list[str]:
    """Return the lines that lead to the last failure, or the last lines there are."""
    lines = _monitor_log()
    failures = [number for number, line in enumerate(lines) if "failed [LogTimer" in line]
    end = failures[-1] + 1 if failures else len(lines)
    return lines[max(end - MONITOR_LINES, 0) : end]


VERBS: Mapping[str, Callable[..., Answers]] = {
    each.__name__: each for each in (wait, status, jobs, submit, follow, stop_workers)
}


def main(verb: str, arguments: str) -> int:
    """Answer one question and return the exit status."""
    threading.Thread(target=_end_with_connection, daemon=True).start()
    try:
        for answer in VERBS[verb](**json.loads(arguments)):
            print(json.dumps(answer), flush=True)
    except ConnectionError:
        print(json.dumps({"absent": True}), flush=True)
        return 1
    except (NoAnswerError, RuntimeError) as error:
        print(json.dumps({"error": str(error).strip().partition("\n")[0]}), flush=True)
        return 1
    return 0


def _end_with_connection() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
