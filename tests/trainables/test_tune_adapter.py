"""The trainable as Ray Tune meets it, with and without our command line."""

import json
import threading

import pytest
from safetensors.torch import load_file

from trainables.execute import execute
from trainables.tune_adapter import RunTrainable
from trainables.writer import Writer


def configuration(tiny, folder, **changes):
    spec = tiny.spec("hybrid")
    return {
        "spec": {**spec.model_dump(mode="json"), **changes},
        "dataset": str(tiny.folder(tiny.source)),
        "folder": str(folder),
        "report_seconds": 0.0,
    }


def trained(trainable):
    """Step to the end and return every result."""
    results = [trainable.train()]
    while not results[-1]["done"]:
        results.append(trainable.train())
    return results


def test_it_trains_what_execute_trains(tiny, tmp_path):
    results = trained(RunTrainable(config=configuration(tiny, tmp_path / "tune")))
    expected = execute(tiny.spec("hybrid"), tiny.places(tmp_path / "plain", "hybrid"))
    assert results[-1]["final_loss"] == expected.metrics["final_loss"]
    assert [result["update"] for result in results] == [1, 2, 3, 4, 5, 6]
    assert results[2]["fraction"] == 0.5
    steps = [step for result in results for _, step, _, _ in result["points"]]
    assert steps == [2, 4, 6]


def test_an_actor_used_again_gives_what_a_fresh_one_gives(tiny, tmp_path):
    used = RunTrainable(config=configuration(tiny, tmp_path / "used"))
    trained(used)
    used.reset(configuration(tiny, tmp_path / "used", seed=1))
    again = trained(used)
    fresh = trained(RunTrainable(config=configuration(tiny, tmp_path / "fresh", seed=1)))
    assert again[-1]["final_loss"] == fresh[-1]["final_loss"]


def test_a_run_that_is_stopped_early_is_kept(tiny, tmp_path):
    config = configuration(tiny, tmp_path)
    stopped = RunTrainable(config=config)
    for _ in range(3):
        stopped.train()
    stopped.stop()
    assert RunTrainable(config=config).train()["update"] == 4


def test_asked_to_stop_it_has_saved_when_its_result_is_out(tiny, tmp_path):
    stop = tmp_path / "stop"
    config = {**configuration(tiny, tmp_path / "runs"), "stop_file": str(stop)}
    first = RunTrainable(config=config)
    first.train()
    stop.touch()
    first.train()
    del first  # Killed: nothing tells it to tidy up.
    stop.unlink()
    assert RunTrainable(config=config).train()["update"] == 3


def test_the_checkpoints_of_tune_resume_exactly(tiny, tmp_path):
    first = RunTrainable(config=configuration(tiny, tmp_path / "first"))
    for _ in range(3):
        first.train()
    (tmp_path / "checkpoint").mkdir()
    first.save_checkpoint(str(tmp_path / "checkpoint"))
    trained(first)
    # Not beside each other: the streams that dropout draws from are those of the process.
    second = RunTrainable(config=configuration(tiny, tmp_path / "second"))
    second.load_checkpoint(str(tmp_path / "checkpoint"))
    trained(second)
    key = tiny.spec("hybrid").key
    weights = [
        load_file(tmp_path / name / key / "artifacts" / "weights.safetensors")
        for name in ("first", "second")
    ]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_the_log_of_a_run_says_what_it_is_and_how_far(tiny, tmp_path):
    log, spec = tmp_path / "attempt.log", tiny.spec("hybrid")
    results = trained(RunTrainable(config={**configuration(tiny, tmp_path), "log": str(log)}))
    first, *steps = log.read_text().splitlines()
    assert f"attempt 1 at run {spec.key}: hybrid of adm on isic2018-like, seed 0; " in first
    assert len(steps) == len(results)
    assert "update 3 50%" in steps[2]
    assert "update 6 finished" in steps[-1]
    assert f"final_loss {results[-1]['final_loss']:.6g}" in steps[-1]


def test_what_goes_wrong_is_reported_and_the_actor_lives_on(tiny, tmp_path):
    config = configuration(tiny, tmp_path)
    wrong = {**config["spec"]["dataset"], "fingerprint": "0" * 64}
    log = tmp_path / "attempt.log"
    broken = RunTrainable(
        config={**config, "spec": {**config["spec"], "dataset": wrong}, "log": str(log)}
    )
    result = broken.train()
    assert result["done"]
    assert json.loads(result["failure"])["kind"] == "bad_data"
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    broken.reset(config)
    assert "failure" not in trained(broken)[-1]


def test_a_failed_run_is_told_of_once_its_last_checkpoint_is_there(tiny, tmp_path):
    # Else the next attempt, maybe in the same process, meets a thread that still writes.
    trainable = RunTrainable(config={**configuration(tiny, tmp_path), "checkpoint_seconds": 0})
    session, waited, kept = trainable._session, threading.Event(), []

    class Slow(Writer):
        """Done with nothing before somebody waits for it."""

        def wait(self):
            if self._writing is not None:
                waited.set()
            super().wait()

    def write(update, _state):
        assert waited.wait(20)
        kept.append(update)

    def fail():
        raise MemoryError("too large")

    session._writer = Slow(write, beside=True)
    trainable.train()
    session.run.advance = fail
    assert json.loads(trainable.train()["failure"])["kind"] == "out_of_memory"
    assert kept == [1]


def test_a_wrong_spec_is_reported_as_such(tiny, tmp_path):
    config = configuration(tiny, tmp_path, task=7)
    failure = json.loads(RunTrainable(config=config).train()["failure"])
    assert failure["kind"] == "error"
    assert "task" in failure["message"]


def test_divergence_says_where(tiny, tmp_path):
    spec = tiny.spec("hybrid").model_dump(mode="json")
    spec["training"]["optimizer"] |= {"lr": 1e30, "clip_norm": None}
    spec["training"]["updates"] = 20
    config = {**configuration(tiny, tmp_path), "spec": spec}
    failure = json.loads(trained(RunTrainable(config=config))[-1]["failure"])
    assert failure["kind"] == "diverged"
    assert "last finite" in failure["message"]


@pytest.mark.slow
def test_an_ordinary_tuner_of_somebody_who_never_saw_our_command_line(tiny, tmp_path):
    import ray
    from ray import tune

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        config = configuration(tiny, tmp_path / "runs")
        del config["report_seconds"]
        config["spec"]["seed"] = tune.grid_search([0, 1])
        config["spec"]["training"]["mask_weight"] = tune.choice([1e-4])
        results = tune.Tuner(
            RunTrainable,
            param_space=config,
            tune_config=tune.TuneConfig(metric="final_loss", mode="min", reuse_actors=True),
            run_config=tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0),
        ).fit()
    finally:
        ray.shutdown()
    assert not results.errors
    expected = execute(tiny.spec("hybrid"), tiny.places(tmp_path / "plain", "hybrid"))
    by_seed = {r.config["spec"]["seed"]: r.metrics["final_loss"] for r in results}
    assert by_seed.keys() == {0, 1}
    assert by_seed[0] == expected.metrics["final_loss"]
