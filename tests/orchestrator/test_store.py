"""The store on the real MLflow: published once, whatever is killed when, and rebuilt from artifacts."""

import contextlib
import json
import operator
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import HdsweepError, InputError
from orchestrator.plan.plan import load_plan
from orchestrator.store.failures import Failure
from orchestrator.store.home.home import open_home
from orchestrator.store.store import DamagedResultError, StaleAttemptError, Store
from orchestrator.store.tracking import database as tracking_database
from orchestrator.store.tracking.database import Known, read_runs
from orchestrator.verbs.reproduce import keys_of
from tests.command_line import command
from tests.documents import document
from tests.stored_runs import committed, fill, metric_history
from trainables.history import Point


@pytest.fixture(scope="module")
def plan():
    return load_plan("table2", scale="smoke", methods="hybrid_ft", targets="ph2", seeds="0")


@pytest.fixture
def home(tmp_path, empty_database):
    home = open_home(tmp_path / "home")
    shutil.copy(empty_database, home.database)
    return home


def reconcile(home, *arguments, exit_code=0):
    """Run `hdsweep reconcile` in a process of its own, where MLflow remembers no database."""
    call = command("reconcile", "--home", home.path, *arguments)
    done = subprocess.run(call, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == exit_code, done.stderr
    return done


@pytest.fixture
def pretraining(plan):
    return plan.runs[0]


def move_home(home):
    """Return the home at another path, which this process has not opened yet."""
    return open_home(home.path.rename(home.path.with_name("moved")))


def test_what_is_committed_is_found_by_the_next_driver(home, plan, pretraining):
    stored = committed(home, plan, pretraining)
    with Store.open(home) as store:
        found = store.finished()[pretraining.key]
    assert found.metrics["final_loss"] == 0.25
    assert found.metrics["seconds"] == 1.5
    assert found.run_id == stored.run_id
    assert (found.artifacts / "weights.safetensors").read_bytes() == b"weights"
    assert found.tags["hdsweep.seed"] == "0"
    assert found.tags["hdsweep.torch"] == "2.15.0"
    assert found.tags["hdsweep.generated"] == "true"
    assert not (home.attempts / pretraining.key).exists()
    assert not (home.checkpoints / pretraining.key).exists()


def test_runs_are_children_of_the_sweep_with_their_parameters(home, plan, pretraining):
    stored = committed(home, plan, pretraining)
    store = Store.read(home)
    run = store._client.get_run(stored.run_id)
    parent = store._client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.data.tags["hdsweep.sweep"] == "table2/smoke"
    assert run.data.params["training.optimizer.lr"] == "0.0001"
    assert run.info.run_name == pretraining.label


def test_what_is_read_without_mlflow_is_what_mlflow_says(home):
    plan = load_plan("table2", scale="smoke", methods="hybrid_ft", targets="ph2", seeds="0,1,2")
    pretraining, going, *failing = plan.runs
    odd = {"final_loss": float("nan"), "best": float("inf"), "worst": -1e-300}
    with Store.open(home) as store:
        store.begin_sweep(plan)
        attempt = store.start(pretraining)
        fill(attempt)
        store.commit(pretraining.key, attempt)
        store.start(going)
        for run in failing:
            store.fail(run.key, store.start(run), Failure("error", "it broke", "log"))
        client, experiment = store._client, store._experiment
        first = store._runs[failing[0].key].run_id
        for name, value in odd.items():
            client.log_metric(store._runs[going.key].run_id, name, value)
        client.delete_run(first)
    read = read_runs(home, "hdsweep")
    told = client.search_runs([experiment], order_by=["attributes.start_time DESC"])
    key = operator.attrgetter("run_id")
    # `repr` of both: NaN is not itself.
    assert list(map(repr, sorted(read.known, key=key))) == list(
        map(repr, sorted(map(Known.of, told), key=key))
    )
    assert read.deleted == {first}
    starts = [run.started_ms for run in read.known]
    assert starts == sorted(starts, reverse=True)
    assert read_runs(home, "of somebody else") is None


def test_values_logged_while_running_are_not_logged_again(home, plan, pretraining):
    with Store.open(home) as store:
        store.begin_sweep(plan)
        store.start(pretraining)
        store.log_points(pretraining.key, [Point("loss", 1, 0.5, 1000)])
    # Another driver, which has to read back what the first one logged.
    with Store.open(home) as store:
        store.begin_sweep(plan)
        attempt = store.start(pretraining)
        store.log_points(pretraining.key, [Point("loss", 1, 0.5, 1500)])
        fill(attempt)
        store.commit(pretraining.key, attempt)
        assert metric_history(store, pretraining.key, "loss") == [(1, 0.5), (2, 0.25)]


def test_a_worker_that_comes_back_cannot_publish(home, plan, pretraining):
    with Store.open(home) as store:
        store.begin_sweep(plan)
        lost = store.start(pretraining)
        store.fail(pretraining.key, lost, Failure("worker_lost", "no sign of life"))
        current = store.start(pretraining)
        assert current.number == lost.number + 1
        fill(lost)
        with pytest.raises(StaleAttemptError):
            store.commit(pretraining.key, lost)
        fill(current)
        assert store.commit(pretraining.key, current).key == pretraining.key


@pytest.mark.parametrize("damage", [b"weightz", b"weight", b""])
def test_a_result_that_does_not_match_its_manifest_is_refused(home, plan, pretraining, damage):
    with Store.open(home) as store:
        store.begin_sweep(plan)
        attempt = store.start(pretraining)
        fill(attempt)
        (attempt.artifacts / "weights.safetensors").write_bytes(damage)
        with pytest.raises(DamagedResultError):
            store.commit(pretraining.key, attempt)
        assert store.finished() == {}


def test_failures_keep_their_cause_and_are_no_results(home, plan, pretraining):
    with Store.open(home) as store:
        store.begin_sweep(plan)
        attempt = store.start(pretraining)
        store.fail(pretraining.key, attempt, Failure("diverged", "loss at update 7", "Traceback"))
    store = Store.read(home)
    failure = store.failures()[pretraining.key]
    assert (failure.kind, failure.message, failure.attempt) == ("diverged", "loss at update 7", 1)
    assert "Traceback" in attempt.log.read_text()
    assert store.finished() == {}


def test_a_run_whose_driver_died_is_marked_and_started_again(home, plan, pretraining):
    with Store.open(home) as store:
        store.begin_sweep(plan)
        store.start(pretraining)
    with Store.open(home) as store:
        assert store.reconciled == {pretraining.key: "interrupted"}
        assert store.running() == {}
        assert store.start(pretraining).number == 2


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


def operations(store, allowed):
    """Let the store do so many operations on files and database, then die."""
    count = 0

    def counted(operation):
        def call(*arguments, **named):
            nonlocal count
            if count >= allowed:
                raise Killed
            count += 1
            return operation(*arguments, **named)

        return call

    folders = store._folders
    for name in ("publish", "tidy"):
        setattr(folders, name, counted(getattr(folders, name)))
    client = store._client
    for name in ("log_batch", "set_terminated", "get_run"):
        setattr(client, name, counted(getattr(client, name)))
    return lambda: count


@pytest.mark.parametrize("allowed", range(4))
def test_a_commit_cut_short_anywhere_is_completed(home, plan, pretraining, allowed):
    with Store.open(home) as store:
        store.begin_sweep(plan)
        attempt = store.start(pretraining)
        fill(attempt)
        operations(store, allowed)
        with pytest.raises(Killed):
            store.commit(pretraining.key, attempt)
    with Store.open(home) as store:
        found = store.finished()[pretraining.key]
        assert found.metrics["final_loss"] == 0.25
        assert metric_history(store, pretraining.key, "loss") == [(1, 0.5), (2, 0.25)]
        assert len(metric_history(store, pretraining.key, "seconds")) == 1
        assert (found.artifacts / "weights.safetensors").read_bytes() == b"weights"
    assert not (home.attempts / pretraining.key).exists()


def test_the_database_is_rebuilt_from_the_artifacts(home, plan, pretraining):
    before = committed(home, plan, pretraining)
    home.database.unlink()
    moved = move_home(home)
    assert document(reconcile(moved, "--rebuild", "--json").stdout)["stored"] == 1
    store = Store.read(moved)
    after = store.finished()[pretraining.key]
    parent = after.tags["mlflow.parentRunId"]
    assert store._client.get_run(parent).data.tags["hdsweep.sweep"] == "table2/smoke"
    assert metric_history(store, pretraining.key, "loss") == [(1, 0.5), (2, 0.25)]
    assert after.metrics == before.metrics
    assert (after.artifacts / "weights.safetensors").read_bytes() == b"weights"


def test_a_damaged_database_is_named_and_can_be_rebuilt(home, plan, pretraining):
    committed(home, plan, pretraining)
    moved = move_home(home)
    moved.database.write_bytes(b"not a database" * 1000)
    told = reconcile(moved, exit_code=2).stderr
    assert "cannot be read" in told
    assert "hint: `hdsweep reconcile --rebuild`" in told
    reconcile(moved, "--rebuild")
    assert pretraining.key in Store.read(moved).finished()
    assert len(list(moved.path.glob("mlflow.damaged-*"))) == 1


def test_a_database_that_is_locked_in_the_middle_ends_the_sweep_in_one_line(
    home, plan, pretraining
):
    moved = move_home(home)

    def sweep():
        with (
            Store.open(moved) as store,
            contextlib.closing(sqlite3.connect(moved.database)) as other,
        ):
            store.begin_sweep(plan)
            other.execute("BEGIN IMMEDIATE")
            store.start(pretraining)

    with pytest.raises(
        HdsweepError, match=r"to any more: database is locked\n\nhint: once it can"
    ):
        sweep()
    committed(moved, plan, pretraining)
    assert pretraining.key in Store.read(moved).finished()


def test_a_disk_that_is_full_in_the_middle_ends_the_sweep_in_one_line(home):
    def sweep():
        with Store.open(home), Path("/dev/full").open("w") as full:
            full.write("a checkpoint")

    with pytest.raises(
        HdsweepError, match=r"to any more: .*No space left on device\n\nhint: once"
    ):
        sweep()


HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(60)
"""


def test_a_database_that_others_keep_locked_is_refused_with_who_they_are(
    home, plan, pretraining, monkeypatch
):
    committed(home, plan, pretraining)
    monkeypatch.setattr(tracking_database, "PATIENCE_S", 0.1)
    moved = move_home(home)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(moved.database)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=f"is locked by process {holder.pid} ") as caught,
            Store.open(moved),
        ):
            pass
        assert "rebuild" not in str(caught.value)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with Store.open(moved) as store:
        assert store.finished().keys() == {pretraining.key}


def test_a_damaged_artifact_is_not_taken_into_a_rebuilt_database(home, plan, pretraining):
    stored = committed(home, plan, pretraining)
    (stored.artifacts / "weights.safetensors").write_bytes(b"weightz")
    home.database.unlink()
    assert document(reconcile(move_home(home), "--rebuild", "--json").stdout)["stored"] == 0


def test_database_and_logs_are_the_owners(home, plan, pretraining):
    committed(home, plan, pretraining)
    files = [path for path in home.path.rglob("*") if path.is_file()]
    assert home.database in files
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files} == {0}


def test_nothing_stored_reads_as_nothing(tmp_path):
    home = open_home(tmp_path)
    assert Store.read(home) is None


def test_no_secret_of_the_environment_is_stored(home, plan, pretraining, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_CANARY0123456789")
    committed(home, plan, pretraining)
    for path in home.path.rglob("*"):
        if path.is_file():
            assert b"hf_CANARY" not in path.read_bytes(), path


def no_files(folder):
    """Write no file of the table."""


def test_a_person_finds_report_and_table_first(tmp_path, plan):
    def page_and_table(folder):
        (folder / "report.html").write_text("page")
        (folder / "table.md").write_text("table")

    row = {"method": "hybrid_ft", "target": "ph2", "metric": "jaccard", "std": None, "n": 1}
    row["dataset"] = "ph2-like"
    with Store.open(open_home(tmp_path / "home")) as store:
        sweep = store.begin_sweep(plan)
        store.write_table(page_and_table, [{**row, "mean": 50.0}], "| method |")
        client, experiment = store._client, store._experiment
        run = client.get_run(sweep)
        assert run.info.run_name == f"{plan.title} (smoke, only hybrid_ft, ph2, seed 0)"
        assert run.data.tags["mlflow.note.content"] == "| method |"
        names = [each.path for each in client.list_artifacts(sweep)]
        assert (names[0], names[-1]) == ("report.html", "table")
        # What MLflow shows as a table, and asks for under this name.
        (logged,) = json.loads(run.data.tags["mlflow.loggedArtifacts"])
        assert logged == {"path": "table/cells.json", "type": "table"}
        assert "table/cells.json" in [each.path for each in client.list_artifacts(sweep, "table")]
        about = client.get_experiment(experiment)
        assert about.name == "hdsweep"
        assert "`report.html`" in about.tags["mlflow.note.content"]


def test_summaries_are_kept_up_to_date_and_not_doubled(home, plan, pretraining):
    row = {"method": "hybrid_ft", "target": "ph2", "metric": "jaccard", "std": None, "n": 1}
    row["dataset"] = "ph2-like"
    with Store.open(home) as store:
        store.begin_sweep(plan)
        store.write_table(no_files, [{**row, "mean": 50.0}], "")
    with Store.open(home) as store:
        store.begin_sweep(plan)
        folder = store.write_table(no_files, [{**row, "mean": 60.0, "n": 2, "std": 1.0}], "note")
        assert len(store._summaries) == 1
        (summary,) = store._summaries.values()
        assert summary.metrics == {"mean": 60.0, "std": 1.0, "n": 2.0}
    assert json.loads((folder / "cells.json").read_text())["data"][0][3] == 60.0


def test_a_group_is_made_of_runs_that_another_made_too(home, pretraining):
    with Store.open(home) as store:
        first = store.begin_group("search/first/0", "first", {})
        store.begin_group("search/second/0", "second", {})
        attempt = store.start(pretraining, parent=first)
        fill(attempt)
        store.commit(pretraining.key, attempt)
        store.note_use("search/second/0", [pretraining.key, "not-finished"], step=0)
    with Store.open(home) as store:
        for trial in ("first/0", "second/0"):
            assert keys_of(trial, store, {}) == [pretraining.key]
        with pytest.raises(InputError, match="nothing stored is called `third/0`"):
            keys_of("third/0", store, {})


def test_a_driver_killed_before_the_parameters_of_a_group_writes_them_next_time(home):
    with Store.open(home) as store:
        run_id = store.begin_group("search/first/0", "first", {})
        store.end_group("search/first/0", "KILLED", {})
    with Store.open(home) as store:
        store.begin_group("search/first/0", "first", {}, params={"lambda": 1e-4})
        assert store._client.get_run(run_id).data.params == {"lambda": "0.0001"}
