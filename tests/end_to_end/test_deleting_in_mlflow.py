"""People delete things in MLflow while a sweep and a search run, which go on and end as if nobody had.

The command line as a user runs it, real training at smoke scale, and MLflow's own client beside it.
"""

import json
import subprocess

import pytest
from mlflow.tracking import MlflowClient

from tests.command_line import PATIENCE_S, command, hdsweep, outcome
from tests.end_to_end.processes import wait_until

pytestmark = pytest.mark.slow

SELECTION = (
    "--scale",
    "smoke",
    "--methods",
    "hybrid_ft",
    "--targets",
    "ph2",
    "--seeds",
    "0,1,2",
)
RUNS = 4


def start(home, *verb):
    return subprocess.Popen(
        command(*verb, "--home", home, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished(home):
    return list(home.glob("artifacts/*/artifacts/result.json"))


def ended(driver):
    """Return the last record of a driver, and the lines that it told."""
    out, err = driver.communicate(timeout=PATIENCE_S)
    told = err.decode()
    assert driver.returncode == 0, told[-3000:]
    assert "Traceback" not in told
    return json.loads(out.splitlines()[-1]), told.splitlines()


def client_of(home):
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    return client, client.get_experiment_by_name("hdsweep").experiment_id


def of_kind(client, experiment, kind):
    found = client.search_runs([experiment], f"tags.`hdsweep.kind` = '{kind}'")
    return [run.info.run_id for run in found]


def report(home):
    return outcome(hdsweep("report", "table2", *SELECTION, "--json", home=home)[0])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    home = tmp_path_factory.mktemp("undisturbed")
    ended(start(home, "run", "table2", *SELECTION))
    return report(home)


def test_a_sweep_whose_runs_and_experiment_are_deleted_ends_with_the_same_table(
    undisturbed, tmp_path
):
    driver = start(tmp_path, "run", "table2", *SELECTION)
    wait_until(lambda: len(finished(tmp_path)) >= 1, driver)
    client, experiment = client_of(tmp_path)
    for run in of_kind(client, experiment, "sweep") + of_kind(client, experiment, "run"):
        client.delete_run(run)
    wait_until(lambda: len(finished(tmp_path)) >= 3, driver)
    client.delete_experiment(experiment)
    record, told = ended(driver)
    assert (record["planned"], record["finished"], record["failed"]) == (RUNS, RUNS, 0)
    assert any("had been deleted in MLflow" in line for line in told)
    assert report(tmp_path) == undisturbed
    assert client.get_experiment(experiment).lifecycle_stage == "active"
    assert len(of_kind(client, experiment, "run")) == RUNS
    assert len(of_kind(client, experiment, "sweep")) == 1


def test_a_search_whose_runs_and_experiment_are_deleted_ends_as_one_left_alone(tmp_path):
    search = ("tune", "lambda", "--scale", "smoke", "--targets", "ph2", "--trials", "3")
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    expected, _ = ended(start(calm, *search))
    driver = start(disturbed, *search)
    wait_until(lambda: len(finished(disturbed)) >= 1, driver)
    client, experiment = client_of(disturbed)
    for kind in ("group", "run"):
        for run in of_kind(client, experiment, kind):
            client.delete_run(run)
    wait_until(lambda: len(finished(disturbed)) >= 2, driver)
    client.delete_experiment(experiment)
    record, told = ended(driver)
    assert any("had been deleted in MLflow" in line for line in told)
    assert record["best"] == expected["best"]
    assert client.get_experiment(experiment).lifecycle_stage == "active"
    theirs, number = client_of(calm)
    for kind in ("group", "run"):
        assert len(of_kind(client, experiment, kind)) == len(of_kind(theirs, number, kind))
