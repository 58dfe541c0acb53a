"""What people do in MLflow while a sweep is at work: it goes on, and all is as if nobody had.

On the real MLflow, with its own client and its own `mlflow gc`.
"""

import contextlib
import os
import shutil
import sqlite3

import pytest
from click.testing import CliRunner
from mlflow.cli import gc
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from orchestrator.plan.plan import load_plan
from orchestrator.store.home.home import open_home
from orchestrator.store.store import Store
from orchestrator.store.tracking.database import experiment_name
from orchestrator.store.tracking.server import choose
from tests.stored_runs import fill
from trainables.history import Point

ROW = {"method": "m", "target": "t", "dataset": "t", "metric": "jaccard"}
ROWS = [{**ROW, "mean": 50.0, "std": None, "n": 1}]
LABORATORY = "DATABASE_OF_THE_LABORATORY"
OF_A_MOMENT = {"mlflow.parentRunId", "hdsweep.changes"}


@pytest.fixture(scope="module")
def plan():
    return load_plan("table2", scale="smoke", methods="hybrid_ft", targets="ph2", seeds="0")


@pytest.fixture(params=["database", pytest.param("server", marks=pytest.mark.slow)])
def home(request, tmp_path, empty_database, monkeypatch):
    home = open_home(tmp_path / "home")
    if request.param == "server":
        choose(home, request.getfixturevalue("laboratory"))
        folder = request.getfixturevalue("laboratory_folder")
        monkeypatch.setenv(LABORATORY, f"sqlite:///{folder / 'lab.db'}")
    else:
        shutil.copy(empty_database, home.database)
        with contextlib.closing(sqlite3.connect(home.database)) as database:
            place = (home.artifact_location,)
            database.execute("UPDATE experiments SET artifact_location = ?", place)
            database.commit()
    return home


def database_of(home):
    return f"sqlite:///{home.database}"


class People:
    """Those who look at a home in MLflow."""

    def __init__(self, home, store, runs):
        self.home, self.client = home, MlflowClient(home.tracking_uri or database_of(home))
        self.database = os.environ.get(LABORATORY) or database_of(home)
        self.experiment = store._experiment
        self.ids = {
            "finished": store._runs[runs[0].key].run_id,
            "running": store._runs[runs[1].key].run_id,
            "sweep": next(iter(store._parents.values())).run_id,
            "summary": next(iter(store._summaries.values())).run_id,
        }

    def delete(self, what):
        if what == "experiment":
            self.client.delete_experiment(self.experiment)
        else:
            self.client.delete_run(self.ids[what])

    def restore(self, what):
        self.delete(what)
        if what == "experiment":
            self.client.restore_experiment(self.experiment)
        else:
            self.client.restore_run(self.ids[what])

    def rename(self, what):
        if what == "experiment":
            self.client.rename_experiment(self.experiment, f"mine {self.home.path}")
        else:
            self.client.update_run(self.ids[what], name="mine")

    def edit_tags(self, what):
        for name in ("hdsweep.key", "hdsweep.sweep", "hdsweep.summary", "hdsweep.attempt"):
            if name in self.client.get_run(self.ids[what]).data.tags:
                self.client.set_tag(self.ids[what], name, "mine")

    def remove_tags(self, what):
        for name in self.client.get_run(self.ids[what]).data.tags:
            if name.startswith("hdsweep."):
                self.client.delete_tag(self.ids[what], name)

    def note(self, what):
        self.client.set_tag(self.ids[what], "mlflow.note.content", "looks good\nto me")

    def set_param(self, what):
        self.client.log_param(self.ids[what], "mine", "1")

    def end(self, what):
        self.client.set_terminated(self.ids[what], "KILLED")

    def forget(self, what):
        """Delete for good, but for the folders."""
        hidden = self.home.path.with_name("hidden")
        self.home.artifacts.rename(hidden)
        try:
            self.delete_for_good(what)
        finally:
            shutil.rmtree(self.home.artifacts, ignore_errors=True)
            hidden.rename(self.home.artifacts)

    def delete_for_good(self, what):
        self.delete(what)
        which = ["--run-ids", self.ids[what]] if what != "experiment" else []
        which = which or ["--experiment-ids", self.experiment]
        place = ["--backend-store-uri", self.database, "--tracking-uri", self.database]
        done = CliRunner().invoke(gc, [*place, *which])
        assert done.exit_code == 0, done.output
        gone = self.client.get_experiment if what == "experiment" else self.client.get_run
        with pytest.raises(MlflowException):
            gone(self.experiment if what == "experiment" else self.ids[what])


def sweep(home, plan, told, disturb=lambda _: None):
    """Do what a driver does, while people do something; return what is lost."""
    first, second = plan.runs
    with Store.open(home, told.append) as store:
        store.begin_sweep(plan)
        attempt = store.start(first)
        fill(attempt, spec=first.spec.model_dump_json())
        store.commit(first.key, attempt)
        attempt = store.start(second)
        store.log_points(second.key, [Point("loss", 1, 0.5, 1000)])
        store.write_table(lambda _: None, ROWS, "a note")
        disturb(People(home, store, plan.runs))
        store.log_points(second.key, [Point("loss", 2, 0.25, 2000)])
        store.add_redone(second.key, 1)
        fill(attempt, spec=second.spec.model_dump_json())
        store.commit(second.key, attempt)
        lost = store.settle()
        store.write_table(lambda _: None, ROWS, "a note")
        store.end_sweep(complete=True)
    return lost


def state(home):
    """Return all that MLflow has of a home, by the name of the run, and who lies below whom."""
    client = MlflowClient(home.tracking_uri or database_of(home))
    experiment = client.get_experiment_by_name(experiment_name(home))
    assert experiment.lifecycle_stage == "active"
    runs = client.search_runs([experiment.experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    found = {
        run.info.run_name: {
            "status": run.info.status,
            "tags": {k: v for k, v in run.data.tags.items() if k not in OF_A_MOMENT},
            "params": run.data.params,
            "metrics": {
                name: sorted(
                    {(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)}
                )
                for name in run.data.metrics
                if name != "seconds"
            },
            "below": names.get(run.data.tags.get("mlflow.parentRunId")),
            "artifacts": sorted(
                path.name for path in (home.artifacts / run.info.run_id / "artifacts").glob("*")
            ),
        }
        for run in runs
    }
    assert len(found) == len(runs) == 4
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, empty_database, plan):
    home = open_home(tmp_path_factory.mktemp("calm") / "home")
    shutil.copy(empty_database, home.database)
    told = []
    assert sweep(home, plan, told) == []
    assert told == []
    return state(home)


RUNS = ("finished", "running", "sweep", "summary")
TOLD = [
    *((action, run) for action in ("delete", "edit_tags", "remove_tags") for run in RUNS),
    ("end", "finished"),
    ("end", "sweep"),
    ("delete", "experiment"),
    ("rename", "experiment"),
    *(("forget", run) for run in (*RUNS, "experiment")),
    *(("delete_for_good", run) for run in ("running", "summary")),
]
SILENT = [*(("restore", run) for run in (*RUNS, "experiment")), ("end", "running")]


@pytest.mark.parametrize(("action", "what"), TOLD + SILENT)
def test_the_sweep_goes_on_and_the_store_is_as_if_nobody_had(
    home, plan, undisturbed, action, what
):
    told = []
    assert sweep(home, plan, told, lambda people: getattr(people, action)(what)) == []
    assert bool(told) is ((action, what) in TOLD), told
    assert all("\n" not in line for line in told)
    assert state(home) == undisturbed
    again = []
    with Store.open(home, again.append) as store:
        assert store.reconciled == {}
    assert again == []
    assert state(home) == undisturbed


@pytest.mark.parametrize("what", RUNS)
def test_what_people_write_beside_ours_is_theirs(home, plan, undisturbed, what):
    def write(people):
        people.rename(what)
        people.client.set_tag(people.ids[what], "mine", "looks good\nto me")
        people.client.log_param(people.ids[what], "mine", "1")

    told = []
    assert sweep(home, plan, told, write) == []
    assert told == []
    found = state(home)
    mine = found.pop("mine")
    assert mine["tags"].pop("mine") == "looks good\nto me"
    assert mine["params"].pop("mine") == "1"
    (name,) = undisturbed.keys() - found.keys()
    assert mine["tags"].pop("mlflow.runName") == "mine"
    expected = undisturbed[name]
    assert mine == expected | {
        "tags": {k: v for k, v in expected["tags"].items() if k != "mlflow.runName"}
    }


@pytest.mark.parametrize("what", ["finished", "running"])
def test_values_that_people_log_to_a_run_are_in_no_table(home, plan, what):
    def log(people):
        for name in ("final_loss", "test_jaccard", "mine"):
            people.client.log_metric(people.ids[what], name, 99.0, step=10_000)

    told = []
    assert sweep(home, plan, told, log) == []
    read, expected = (
        Store.read(home).finished(),
        {"final_loss": 0.25, "loss": 0.25, "seconds": 1.5},
    )
    assert all(read[run.key].metrics == expected for run in plan.runs)
    with Store.open(home, told.append) as store:
        assert all(store.finished()[run.key].metrics == expected for run in plan.runs)
    (line,) = told
    assert line.startswith("metrics of others were logged to")
    assert line.endswith("tables go by what is stored")


@pytest.mark.parametrize("what", ["finished", "experiment"])
def test_a_finished_run_that_is_gone_with_its_artifacts_is_told_and_not_in_the_store(
    home, plan, what
):
    told = []
    lost = sweep(home, plan, told, lambda people: people.delete_for_good(what))
    assert lost == [plan.runs[0].key]
    assert told
    with Store.open(home) as store:
        assert set(store.finished()) == {plan.runs[1].key}


def test_a_value_that_mlflow_refuses_is_left_out_and_told(home, plan):
    told, run = [], plan.runs[0]

    with Store.open(home, told.append) as store:
        store.begin_sweep(plan)
        begin = store._book.create

        def create(*arguments, **named):
            known = begin(*arguments, **named)
            MlflowClient(home.tracking_uri or database_of(home)).log_param(
                known.run_id, "seed", "77"
            )
            return known

        store._book.create = create
        attempt = store.start(run)
        fill(attempt)
        store.commit(run.key, attempt)
        store.log_points(run.key, [Point("a*b", 1, 0.5, 1), Point("fine", 1, 0.5, 1)])
        store._write(store._runs, run.key, tags={"half a character": "\udce9", "n" * 300: "x"})
        found = store._client.get_run(store._runs[run.key].run_id).data
    assert found.params["seed"] == "77"
    assert found.params["training.optimizer.lr"] == "0.0001"
    assert found.metrics["fine"] == 0.5
    assert found.tags["half a character"] == "\\udce9"
    assert len(told) == 3
    assert "refused seed of" in told[0]
    assert "refused a*b of" in told[1]
    assert "refused nnn" in told[2]
