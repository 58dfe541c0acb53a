"""Workers run the driver's code, whatever lies in their way, and prove it before they train."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.command_line import PATIENCE_S, command
from tests.end_to_end.processes import wait_until, workers_of
from trainables.code import code_hash

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGES = ("orchestrator", "search_spaces", "trainables")
ONE_RUN = ("--scale", "smoke", "--methods", "scratch_adm", "--targets", "ph2", "--seeds", "0")
PERFECT = """
    def compute(self) -> dict[str, float]:
        return {"jaccard": 100.0}
"""


def copied(folder, *names):
    for name in names:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    return folder


def with_perfect_scores(folder):
    """Change the metric in a copy of the code."""
    metric = folder / "trainables/metrics/jaccard.py"
    before, _, _ = metric.read_text().partition("\n    def compute")
    metric.write_text(before + PERFECT)
    return folder


@pytest.fixture(scope="module")
def another_checkout(tmp_path_factory):
    return with_perfect_scores(copied(tmp_path_factory.mktemp("another"), "trainables"))


@pytest.fixture(scope="module")
def hostile_python(another_checkout, tmp_path_factory):
    """Return a Python into which a `.pth` file brings the other checkout before everything else."""
    folder = tmp_path_factory.mktemp("hostile")
    venv.create(folder, symlinks=True)
    scheme = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    (packages / "a.pth").write_text(f"{another_checkout}\nimport trainables.config\n")
    (packages / "0.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (packages / "b.pth").write_text(f"{ROOT}\n")
    return str(folder / "bin/python")


def run(home, *, python=sys.executable, cwd=None, said=None, **environment):
    """Make one sweep and return the result of its only run, and the summary."""
    told = ("run", "table2", *ONE_RUN, "--home", home, "--json")
    done = subprocess.run(
        [python, *command(*told)[1:]],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=cwd,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    if said is not None:
        said.write_text(done.stderr)
    (path,) = home.glob("artifacts/*/artifacts/result.json")
    return json.loads(path.read_text()), json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    result, _ = run(tmp_path_factory.mktemp("clean") / "home", cwd="/")
    assert result["metrics"]["test_jaccard"] < 99
    return result


def test_neither_the_directory_nor_the_path_nor_a_pth_file_changes_a_number(
    another_checkout, hostile_python, clean, tmp_path
):
    # Of libraries, too, the working directory offers one of its own.
    folder = copied(tmp_path / "here", "trainables")
    with_perfect_scores(folder)
    (folder / "safetensors.py").write_text("raise RuntimeError('of the working directory')")
    entry = {"PYTHONPATH": str(another_checkout), "PYTHONSAFEPATH": "1"}
    disturbed, _ = run(tmp_path / "disturbed", python=hostile_python, cwd=folder, **entry)
    assert disturbed["metrics"] == clean["metrics"]
    assert disturbed["code"] == clean["code"] == {"hdsweep": code_hash()}


def test_nor_does_what_ray_and_mlflow_would_read_from_the_environment(clean, tmp_path):
    nobody = "127.0.0.1:9"
    environment = {
        "TUNE_RESULT_DIR": str(tmp_path / "elsewhere"),
        "RAY_AIR_LOCAL_CACHE_DIR": str(tmp_path / "elsewhere"),
        "RAY_STORAGE": str(tmp_path / "elsewhere"),
        "RAY_CHDIR_TO_TRIAL_DIR": "1",
        "RAY_RUNTIME_ENV_HOOK": "no.such.hook",
        "RAY_CLIENT_MODE": "1",
        "RAY_ADDRESS": nobody,
        "TUNE_MAX_PENDING_TRIALS_PG": "1",
        "MLFLOW_TRACKING_URI": f"http://{nobody}",
        "MLFLOW_RUN_ID": "0" * 32,
        "MLFLOW_EXPERIMENT_ID": "17",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
        "MLFLOW_TRUNCATE_LONG_VALUES": "false",
        "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
        "http_proxy": f"http://{nobody}",
        "HTTPS_PROXY": f"http://{nobody}",
        "HDSWEEP_TRACKING_URL": f"http://{nobody}",
    }
    home, said = tmp_path / "home", tmp_path / "said"
    disturbed, _ = run(home, said=said, **environment)
    assert disturbed["metrics"] == clean["metrics"]
    assert not (tmp_path / "elsewhere").exists()
    told = [line for line in said.read_text().splitlines() if line.startswith("environment: ")]
    named = {line.split()[1] for line in told}
    passed_on = {"RAY_ADDRESS", "http_proxy", "HTTPS_PROXY"}
    assert named == environment.keys() - passed_on
    assert not any(nobody in line for line in told)


def test_code_that_changes_while_a_sweep_runs_is_refused_in_a_line(tmp_path):
    checkout, home, log = (
        copied(tmp_path / "checkout", *PACKAGES),
        tmp_path / "home",
        tmp_path / "log",
    )
    told = (
        "run",
        "table2",
        *ONE_RUN[:-1],
        "0,1,2",
        "--home",
        home,
        "--progress",
        "plain",
        "--json",
    )

    def sweep(stderr):
        # From the folder of the copy, which is thereby what the driver imports.
        return subprocess.Popen(
            command(*told, "--workers", 1), cwd=checkout, stdout=subprocess.PIPE, stderr=stderr
        )

    with log.open("wb") as stderr:
        driver = sweep(stderr)
        wait_until(lambda: "1/3 finished" in log.read_text(), driver)
        with_perfect_scores(checkout)
        for worker in workers_of(driver):
            os.kill(worker, signal.SIGKILL)
        out, _ = driver.communicate(timeout=PATIENCE_S)
    said = log.read_text()
    lines = [line for line in said.splitlines() if "is not the driver's" in line]
    assert driver.returncode == 1, said
    assert "trainables/metrics/jaccard.py is not the driver's" in lines[-1]
    assert "Traceback" not in said
    summary = json.loads(out.splitlines()[-1])
    assert summary["failed"] == 0
    before = {p.parent.name for p in home.glob("artifacts/*/artifacts/result.json")}
    with log.open("wb") as stderr:
        driver = sweep(stderr)
        out, _ = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 0, log.read_text()
    results = [json.loads(p.read_text()) for p in home.glob("artifacts/*/artifacts/result.json")]
    told = {each["metrics"]["test_jaccard"] == 100: each["code"]["hdsweep"] for each in results}
    assert told[False] == code_hash() != told[True]
    assert len(before) < 3


def test_a_node_with_other_code_is_refused_by_name(another_checkout, tmp_path):
    memory = 100 * 2**20
    head = {"num_cpus": 1, "object_store_memory": memory}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        # Where the driver's checkout is not: only what is found along the path.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", f"{with_old_orchestrator(tmp_path, another_checkout)}")
            cluster.add_node(num_cpus=1, object_store_memory=memory)
        done = subprocess.run(
            command("run", "table2", *ONE_RUN, "--home", tmp_path / "home")
            + ["--address", cluster.address],
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    finally:
        cluster.shutdown()
    assert done.returncode == 2, done.stderr[-3000:]
    (line,) = [line for line in done.stderr.splitlines() if ": code is " in line]
    assert line.removeprefix("error: ").startswith("node ")
    assert f" there, {code_hash()} on the driver's machine" in line
    assert not list((tmp_path / "home").glob("**/result.json"))


def with_old_orchestrator(folder, checkout):
    place = copied(folder / "installed", "orchestrator", "search_spaces")
    shutil.copytree(checkout / "trainables", place / "trainables")
    return place
