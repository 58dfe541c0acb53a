"""The store on the real MLflow: published once, whatever is killed when, and rebuilt from artifacts."""

import hashlib
import json
import shutil
import stat
import subprocess
import sys

import pytest

from orchestrator.errors import InputError
from orchestrator.failures import Failure
from orchestrator.home import open_home
from orchestrator.plan import load_plan
from orchestrator.reproduce import keys_of
from orchestrator.store import DamagedResultError, StaleAttemptError, Store
from trainables.history import Point

HISTORY = [["loss", 1, 0.5, 1000], ["loss", 2, 0.25, 2000]]


@pytest.fixture(scope="module")
def plan():
    return load_plan("table2", scale="smoke", methods="hybrid_ft", targets="ph2", seeds="0")


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """Return a tracking database with its tables, which take MLflow seconds to create."""
    home = open_home(tmp_path_factory.mktemp("empty"))
    with Store.open(home):
        return home.database


@pytest.fixture
def home(tmp_path, empty_database):
    home = open_home(tmp_path / "home")
    shutil.copy(empty_database, home.database)
    return home


def reconcile(home, *arguments, exit_code=0):
    """Run `hdsweep reconcile` in a process of its own, where MLflow remembers no database."""
    command = [sys.executable, "-m", "orchestrator.cli", "reconcile", "--home", str(home.path)]
    done = subprocess.run(
        [*command, *arguments], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == exit_code, done.stderr
    return done


@pytest.fixture
def pretraining(plan):
    return plan.runs[0]


def fill(attempt, *, metrics=None):
    """Leave what a worker leaves, result last."""
    attempt.artifacts.mkdir(parents=True, exist_ok=True)
    (attempt.artifacts / "spec.json").write_text('{"stage": "pretraining"}')
    (attempt.artifacts / "weights.safetensors").write_bytes(b"weights")
    manifest = {
        name: {
            "sha256": hashlib.sha256((attempt.artifacts / name).read_bytes()).hexdigest(),
            "bytes": (attempt.artifacts / name).stat().st_size,
        }
        for name in ("spec.json", "weights.safetensors")
    }
    result = {
        "key": attempt.key,
        "attempt": attempt.number,
        "metrics": metrics or {"final_loss": 0.25},
        "updates": 2,
        "seconds": 1.5,
        "history": HISTORY,
        "artifacts": manifest,
        "environment": {"torch": "2.15.0", "device": "cpu"},
    }
    (attempt.artifacts / "result.json").write_text(json.dumps(result))


def move_home(home):
    """Return the home at another path, which this process has not opened yet."""
    return open_home(home.path.rename(home.path.with_name("moved")))


def committed(home, plan, run):
    with Store.open(home) as store:
        store.begin_sweep(plan)
        attempt = store.start(run)
        fill(attempt)
        return store.commit(run.key, attempt)


def metric_history(store, key, name):
    run_id = store.finished()[key].run_id
    return [(m.step, m.value) for m in store._client.get_metric_history(run_id, name)]


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
    assert json.loads(reconcile(moved, "--rebuild", "--json").stdout) == {"rebuilt": 1}
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


def test_a_damaged_artifact_is_not_taken_into_a_rebuilt_database(home, plan, pretraining):
    stored = committed(home, plan, pretraining)
    (stored.artifacts / "weights.safetensors").write_bytes(b"weightz")
    home.database.unlink()
    assert json.loads(reconcile(move_home(home), "--rebuild", "--json").stdout) == {"rebuilt": 0}


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


def test_summaries_are_kept_up_to_date_and_not_doubled(home, plan, pretraining):
    row = {"method": "hybrid_ft", "target": "ph2", "metric": "jaccard", "std": None, "n": 1}
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
            assert keys_of(trial, store, None) == [pretraining.key]
        with pytest.raises(InputError, match="nothing stored is called `third/0`"):
            keys_of("third/0", store, None)


def test_a_driver_killed_before_the_parameters_of_a_group_writes_them_next_time(home):
    with Store.open(home) as store:
        run_id = store.begin_group("search/first/0", "first", {})
        store.end_group("search/first/0", "KILLED", {})
    with Store.open(home) as store:
        store.begin_group("search/first/0", "first", {}, params={"lambda": 1e-4})
        assert store._client.get_run(run_id).data.params == {"lambda": "0.0001"}
