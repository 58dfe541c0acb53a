"""The batch script under Slurm itself: its daemons on one node, cut off from this machine, without GPUs."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "slurm" / "hdsweep.sbatch"
NODE = Path(__file__).parent / "slurm" / "node.sh"
ADDRESS = "198.51.100.1"
NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc")
SWEEP = ("table2", "--scale", "smoke", "--methods", "scratch_adm", "--targets", "ph2")
# Long enough that a run is under way when the job's time is over.
LONG = ("--set", "fine_tuning.max_epochs=600", "--set", "fine_tuning.patience=600")
DEADLINE = 240  # Seconds.

# What the head answers to a question without, and with, the token.
ASK = """
import sys, grpc
def answer(**more):
    with grpc.insecure_channel(sys.argv[1]) as channel:
        method = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
        ask = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        try:
            ask(b"", timeout=60, **more)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"
token = open(sys.argv[2]).read().strip()
print(answer(), answer(metadata=[("authorization", "Bearer " + token)]))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or shutil.which("slurmctld") is None,
        reason="needs root, and Slurm: slurmctld, slurmd, slurm-client of Debian",
    ),
]


class Node:
    """A machine of its own on which Slurm takes jobs."""

    def __init__(self, state: Path) -> None:
        self.state, self.home = state, state / "home"
        (self.home / "hdsweep").mkdir(parents=True)
        (self.home / "hdsweep/.venv").symlink_to(sys.prefix)
        self._log = (state / "node.log").open("w")
        self._process = subprocess.Popen(
            ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", "bash", str(NODE)],
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "STATE": str(state)},
        )

    def wait_until_ready(self) -> None:
        wait_for("ready", self.state / "node.log")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        (self._first,) = children.read_text().split()

    def end(self) -> None:
        """End the first process, and with it all others of its namespace."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def run(self, *command: str) -> str:
        """Return what a command prints there, of a user who has installed hdsweep."""
        inside = ["nsenter", "--target", self._first, *NAMESPACES, f"--wd={self.state}", "--"]
        return subprocess.run(
            [*inside, *command],
            check=True,
            capture_output=True,
            text=True,
            env={
                "HOME": str(self.home),
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
                "SLURM_CONF": str(self.state / "slurm.conf"),
            },
            timeout=DEADLINE,
        ).stdout

    def submit(self, *words: str) -> tuple[str, Path]:
        """Submit the script as it is, but for the number of nodes; return the job and its output."""
        job = self.run("sbatch", "--parsable", "--nodes=1", str(SCRIPT), *words).strip()
        return job, self.state / f"slurm-{job}.out"

    def end_of(self, job: str) -> str:
        """Wait for it, and return what Slurm says: state, exit code, how often it was queued again."""
        for _ in range(DEADLINE):
            shown = self.run("scontrol", "show", "job", "--oneliner", job)
            fields = dict(field.partition("=")[::2] for field in shown.split())
            if fields["JobState"] not in ("PENDING", "RUNNING", "COMPLETING"):
                return f"{fields['JobState']} {fields['ExitCode']} {fields['Restarts']}"
            time.sleep(1)
        raise AssertionError(fields)


def wait_for(text: str, path: Path) -> None:
    for _ in range(DEADLINE * 5):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.2)
    raise AssertionError(path.read_text() if path.exists() else f"no {path}")


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("node"))
    try:
        made.wait_until_ready()
        yield made
    finally:
        made.end()


def test_a_job_whose_time_is_over_returns_to_the_queue_and_ends_the_sweep(node):
    job, output = node.submit(*SWEEP, "--seeds", "0", *LONG)
    wait_for("started  scratch_adm", output)
    head, token = f"{ADDRESS}:{20000 + int(job)}", node.home / ".ray/auth_token"
    assert node.run(sys.executable, "-c", ASK, head, str(token)) == "UNAUTHENTICATED OK\n"
    # As Slurm does two minutes before the end.
    node.run("scancel", "--batch", "--signal=USR1", job)
    assert node.end_of(job) == "COMPLETED 0:0 1", output.read_text()
    said = output.read_text()
    assert said.count("what runs writes a checkpoint first") == 1, said
    assert said.count("finished scratch_adm") == 1, said
    summary = node.home / f"hdsweep-home/logs/slurm-{job}/summary.json"
    assert json.loads(summary.read_text())["finished"] == 1
    # Nothing of Ray is left on the node.
    assert not Path(f"/tmp/hdsweep-{job}").exists()
    assert "raylet" not in node.run("ps", "-eo", "args")


def test_a_job_fails_by_the_exit_status_of_hdsweep(node):
    job, output = node.submit("tabel2")
    assert node.end_of(job) == "FAILED 2:0 0", output.read_text()
    assert "tabel2" in output.read_text()
