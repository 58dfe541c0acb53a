"""A search as a user runs it: real training at smoke scale, killed and gone on with.

Read back with plain Optuna and plain MLflow.
"""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import optuna
import pytest
from mlflow.tracking import MlflowClient

from tests.command_line import PATIENCE_S, command, hdsweep
from tests.documents import document
from tests.end_to_end.processes import wait_until, workers_of

pytestmark = pytest.mark.slow

SMOKE = ("--scale", "smoke", "--json")
SMALL = ("--source", "isic2018", "--targets", "ph2", "--seeds", 1, *SMOKE)
SEARCH = (*SMALL, "--workers", 1)
TRIALS = 4
KILLS = 10


@dataclass(frozen=True)
class Moment:
    """When to kill."""

    finished: int
    """Runs that have finished."""
    delay: float
    """Seconds after that."""


def tune(home, *arguments, exit_code=0, trials=TRIALS):
    told = ("tune", "lambda", *SEARCH, "--trials", trials, *arguments)
    out, err = hdsweep(*told, home=home, exit_code=exit_code)
    return document(out) if out else err


def stored(home, name="lambda-*"):
    """Return the trials as plain Optuna reads them."""
    (journal,) = home.glob(f"tuning/{name}.journal")
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    storage = optuna.storages.JournalStorage(backend)
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def tracked(home, kind="group"):
    client = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("hdsweep").experiment_id
    runs = client.search_runs([experiment], max_results=1000)
    return [run for run in runs if run.data.tags.get("hdsweep.kind") == kind]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    home = tmp_path_factory.mktemp("undisturbed")
    return home, tune(home)


def test_every_trial_is_told_to_optuna_and_nested_in_mlflow(undisturbed):
    home, summary = undisturbed
    trials = stored(home)
    assert len(trials) == summary["trials"] == TRIALS
    assert all(trial.state.is_finished() for trial in trials)
    assert trials[0].params == {"lambda": 1e-4}
    groups = tracked(home)
    assert all(trial.user_attrs["seconds"] > 0 for trial in trials)
    (parent,) = (run for run in groups if "hdsweep.trial" not in run.data.tags)
    children = [run for run in groups if "hdsweep.trial" in run.data.tags]
    assert len(children) == TRIALS
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert not [run for run in groups if run.info.status == "RUNNING"]
    states = {
        int(run.data.tags["hdsweep.trial"]): run.data.tags["hdsweep.state"] for run in children
    }
    assert states == {trial.number: trial.state.name for trial in trials}
    of_trials = {run.info.run_id for run in children}
    runs = tracked(home, "run")
    assert all(run.data.tags["mlflow.parentRunId"] in of_trials for run in runs)
    folder = home / "artifacts" / parent.info.run_id / "artifacts"
    assert {"answer.md", "answer.html", "curve_lambda.png"} <= {p.name for p in folder.iterdir()}


def test_no_test_metric_is_anywhere_in_a_search(undisturbed):
    home, _ = undisturbed
    for run in tracked(home, "run"):
        assert not [name for name in run.data.metrics if name.startswith("test_")]
    for split in home.glob("artifacts/*/artifacts/split.json"):
        assert json.loads(split.read_text())["test"] == []


def test_again_it_trains_nothing_and_says_the_same(undisturbed):
    home, summary = undisturbed
    again = tune(home)
    assert again["trained"] == 0
    kept = ("trials", "complete", "pruned", "best", "value", "updates")
    assert {name: again[name] for name in kept} == {name: summary[name] for name in kept}


def test_two_searches_of_one_seed_and_one_worker_are_one(undisturbed, tmp_path):
    home, _ = undisturbed
    tune(tmp_path)
    one, other = ([(t.params, t.intermediate_values) for t in stored(h)] for h in (home, tmp_path))
    assert one == other


def start(home):
    told = ("--trials", TRIALS, "--retries", KILLS, "--home", home)
    return subprocess.Popen(
        command("tune", "lambda", *SEARCH, *told),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def kill_at(moment, home, driver, *, whole):
    """Kill the driver, or the worker alone, at some time after so many runs have finished."""
    results = "artifacts/*/artifacts/result.json"
    wait_until(lambda: len(list(home.glob(results))) >= moment.finished, driver)
    time.sleep(moment.delay)
    if whole:
        driver.kill()
        driver.communicate()
        return
    (worker, *_) = wait_until(lambda: workers_of(driver), driver)
    with suppress(ProcessLookupError):  # Ray may have ended it just now: lost all the same.
        os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("seed", [0])
def test_killed_ten_times_it_ends_as_if_nothing_had_been(seed, undisturbed, tmp_path):
    # The driver or its worker, at random; Ctrl-C at last. Other seeds are other moments.
    home, summary = undisturbed
    random = Random(seed)
    driver_dies = random.sample([True] * 4 + [False] * 6, KILLS)
    driver = start(tmp_path)
    for number, whole in enumerate(driver_dies):
        moment = Moment(finished=number, delay=random.uniform(0.0, 1.0))
        kill_at(moment, tmp_path, driver, whole=whole)
        if whole:
            driver = start(tmp_path)
    wait_until(lambda: workers_of(driver), driver)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 130, errors.decode()[-3000:]
    found = tune(tmp_path)
    assert found["value"] == summary["value"]
    one, other = (
        [(t.params, t.state, t.intermediate_values) for t in stored(h)] for h in (home, tmp_path)
    )
    assert one == other
    groups = tracked(tmp_path)
    assert {run.info.status for run in [*groups, *tracked(tmp_path, "run")]} == {"FINISHED"}
    states = {
        int(run.data.tags["hdsweep.trial"]): run.data.tags["hdsweep.state"]
        for run in groups
        if "hdsweep.trial" in run.data.tags
    }
    assert states == {trial.number: trial.state.name for trial in stored(tmp_path)}
    assert len(groups) == len(states) + 1 == TRIALS + 1


def test_the_table_reuses_the_searchs_pretraining_and_says_what_was_tuned(undisturbed):
    home, summary = undisturbed
    cells = ("table2", "--methods", "hybrid_ft", "--targets", "ph2", "--scale", "smoke")
    out, _ = hdsweep("plan", *cells, "--json", home=home)
    reasons = {r["label"]: r["reason"] for r in document(out)["runs"]}
    assert reasons["pretrain hybrid isic2018-like"] == "reused"
    tuned = ("--from-tune", summary["search"])
    out, _ = hdsweep("run", *cells, *tuned, "--workers", 1, "--json", home=home)
    # The pretraining of the best lambda is stored; only the three cells are to be trained.
    assert document(out)["reused"] == 1
    out, _ = hdsweep("report", *cells, *tuned, home=home)
    assert "no other row was tuned" in " ".join(out.split())


def replayed(home, trial):
    """Train the runs of a trial again and return whether each is the same to the last bit."""
    out, _ = hdsweep("reproduce", trial, "--json", home=home)
    return [each["identical"] for each in document(out)["runs"]]


def test_a_trial_is_replayed_to_the_same_bits(undisturbed):
    home, summary = undisturbed
    # A pretraining and a fine-tuning at each of two rungs.
    assert replayed(home, f"{summary['search']}/0") == [True] * 4


def test_several_workers_store_every_suggestion_and_every_trial_is_replayed(undisturbed):
    # Random, so that nothing but the storage holds what was proposed to whom.
    home, _ = undisturbed
    told = ("--name", "several", "--sampler", "random", "--workers", 2)
    summary = tune(home, *told, trials=3)
    trials = stored(home, "several")
    assert len(trials) == summary["trials"] == 3
    client = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
    groups = {run.data.tags["hdsweep.group"]: run.info.run_id for run in tracked(home)}
    for trial in trials:
        params = client.get_run(groups[f"search/several/{trial.number}"]).data.params
        assert {name: float(value) for name, value in params.items()} == trial.params
        # The first is the paper's own, whose runs are those of the search before.
        runs = 2 * len(trial.intermediate_values)
        assert replayed(home, f"several/{trial.number}") == [True] * runs


def test_a_search_that_nobody_made_has_no_answer(undisturbed):
    home, summary = undisturbed
    _, err = hdsweep("plan", "table2", "--from-tune", "lamda", *SMOKE, home=home, exit_code=2)
    assert f"searches are {summary['search']}" in err


def test_a_search_whose_trials_all_fail_says_why_once(tmp_path):
    said = tune(
        tmp_path,
        "--set",
        "pretraining.optimizer.lr=1e30",
        "--set",
        "pretraining.optimizer.warmup_updates=0",
        "--retries",
        0,
        exit_code=1,
        trials=2,
    )
    assert "all 2 trials failed, 2 of them: diverged" in said
    assert "Traceback" not in said


def test_trials_that_share_a_pretraining_that_failed_fail_with_it_and_wait_for_nothing(tmp_path):
    # Eight trials over six values of lambda: two at least share one. The first rung has two
    # updates, so that the loss of the second is that of the pretraining itself.
    settings = ("optimizer.lr=1e30", "optimizer.warmup_updates=0", "updates=18")
    told = ("--trials", 8, "--retries", 0)
    flags = [part for each in settings for part in ("--set", f"pretraining.{each}")]
    _, err = hdsweep("tune", "joint", *SMALL, *told, *flags, home=tmp_path, exit_code=1)
    assert "all 8 trials failed" in err
    assert "diverged" in err
    trials = stored(tmp_path, "joint-*")
    assert {trial.state for trial in trials} == {optuna.trial.TrialState.FAIL}
