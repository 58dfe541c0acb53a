"""The batch script for Slurm: read by shells, and run on one node with Ray, cut off from this machine.

For machines without Slurm; test_slurm_daemons.py has it. Slurm's own commands are stood in for: `srun` by
running its command here, `scontrol` by noting what it is asked. The script, `ray symmetric-run` and the sweep
are the real ones, in namespaces of their own, as `ray stop` ends whatever Ray it finds.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.processes import wait_for_text

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "slurm" / "hdsweep.sbatch"
ISOLATED = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--net", "--mount-proc")
JOB = str(os.getpid())  # The script names a folder in /tmp by it.
PREPARE = "ip link set lo up && "
SWEEP = ("table2", "--scale", "smoke", "--methods", "scratch_adm", "--targets", "ph2")
LONG = ("--set", "fine_tuning.max_epochs=300", "--set", "fine_tuning.patience=300")

SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
case $1 in
  show) echo "$3" ;;
  requeue) echo "$2" >> "$HOME/requeued" ;;
  *) exit 2 ;;
esac
"""


def may_isolate():
    if any(shutil.which(tool) is None for tool in ("unshare", "ip", "mount")):
        return False
    command = [*ISOLATED, "sh", "-c", f"{PREPARE} true"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_the_script_is_one_for_bash():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck_has_nothing_to_say():
    done = subprocess.run(["shellcheck", str(SCRIPT)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def job(tmp_path):
    """Return a function that starts the script as a job on a node of its own."""
    if not may_isolate():
        pytest.skip("may not make namespaces")
    home, tools = tmp_path / "user", tmp_path / "tools"
    (home / "hdsweep").mkdir(parents=True)
    (home / "hdsweep/.venv").symlink_to(Path(sys.prefix))
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    started = []

    def start(*arguments, before=""):
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
            "HOME": str(home),
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NODELIST": "127.0.0.1",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_PER_TASK": "2",
        }
        inside = f'{PREPARE} {before} exec bash "$@"'
        process = subprocess.Popen(
            [*ISOLATED, "sh", "-c", inside, "sh", str(SCRIPT), *arguments],
            stdout=(home / "out").open("w"),
            stderr=subprocess.STDOUT,
            env=environment,
        )
        started.append(process)
        return process, home

    yield start
    for process in started:
        process.kill()
        process.wait(timeout=60)


def summary(home):
    return json.loads((home / f"hdsweep-home/logs/slurm-{JOB}/summary.json").read_text())


@pytest.mark.slow
def test_a_job_that_is_warned_is_queued_again_and_goes_on_where_it_was(job):
    process, home = job(*SWEEP, "--seeds", "0", *LONG)
    out = home / "out"
    wait_for_text("started  scratch_adm ph2-like seed 0", process, out)
    time.sleep(1)
    # What Slurm signals is the script, the child of `unshare`.
    (script,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(script), signal.SIGUSR1)
    assert process.wait(timeout=180) == 0, out.read_text()
    assert (home / "requeued").read_text() == f"{JOB}\n"
    assert summary(home)["finished"] == 0
    process, _ = job(*SWEEP, "--seeds", "0", *LONG)
    assert process.wait(timeout=300) == 0, out.read_text()
    assert summary(home)["finished"] == 1, out.read_text()
    assert (home / "requeued").read_text() == f"{JOB}\n"
    token = home / ".ray/auth_token"
    assert token.stat().st_mode & 0o077 == 0
    assert len(token.read_text().strip()) == 64


@pytest.mark.slow
def test_a_job_whose_ray_does_not_start_fails_and_says_so(job):
    # Its port is taken, and `ray symmetric-run` exits with 0 all the same.
    port = 20000 + int(JOB) % 10000
    process, home = job(*SWEEP, before=f"{sys.executable} -m http.server {port} & sleep 2;")
    assert process.wait(timeout=240) == 1
    said = (home / "out").read_text()
    assert "Failed to start Ray" in said
    assert "the sweep did not come to its end" in said
