"""A run ends alike wherever its home lies, and goes on elsewhere from what it left there."""

import shutil

import pytest

from trainables import staging
from trainables.execute import execute
from trainables.storage import Storage
from trainables.tune_adapter import RunTrainable

ARTIFACTS, CHECKPOINTS = "attempts/key/1", "checkpoints/key"


@pytest.fixture(params=["shared folder", "object store"])
def home(request, tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("HDSWEEP_CACHE", str(tmp_path / "first-machine"))
    if request.param == "shared folder":
        place = Storage(str(tmp_path / "home"))
        place.write("VERSION", b"1")
    else:
        place = Storage(request.getfixturevalue("bucket")("home"))
    for path in tiny.home.rglob("*"):
        if path.is_file():
            name = path.relative_to(tiny.home).as_posix()
            place.write(name, path.read_bytes())
    return place


def configuration(tiny, home, **changes):
    return {
        "spec": tiny.spec("hybrid").model_dump(mode="json"),
        "home": home.place,
        "places": {
            "dataset": f"datasets/{tiny.folder(tiny.source).name}",
            "checkpoints": CHECKPOINTS,
            "artifacts": ARTIFACTS,
            "device": "cpu",
            "keep_weights": True,
        },
        "log": "logs/key-1.log",
        "stop_file": "attempts/stop",
        "report_seconds": 0.0,
        "checkpoint_seconds": 0.0,  # With every update.
        **changes,
    }


def trained(trainable):
    results = [trainable.train()]
    while not results[-1]["done"]:
        results.append(trainable.train())
    assert "failure" not in results[-1], results[-1]
    return results


@pytest.fixture
def expected(tiny, tmp_path):
    places = tiny.places(tmp_path / "plain", "hybrid")
    return execute(tiny.spec("hybrid"), places).metrics["final_loss"]


def on_another_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("HDSWEEP_CACHE", str(tmp_path / "second-machine"))


def test_what_a_run_leaves_is_in_the_home(tiny, home, tmp_path, expected):
    results = trained(RunTrainable(config=configuration(tiny, home)))
    assert results[-1]["final_loss"] == expected
    left = {name.rpartition("/")[2] for name in home.all(ARTIFACTS)}
    assert {"result.json", "spec.json", "weights.safetensors"} <= left
    assert home.one("logs/key-1.log") is not None
    assert not list((tmp_path / "first-machine").glob("runs/*"))
    copied = list((tmp_path / "first-machine/datasets").glob("*/data.arrow"))
    assert [path.parent.name for path in copied] == [tiny.source.fingerprint]


def test_a_machine_that_is_lost_costs_what_came_after_the_last_checkpoint(
    tiny, home, tmp_path, monkeypatch, expected
):
    lost = RunTrainable(config=configuration(tiny, home))
    for _ in range(3):
        lost.train()
    shutil.rmtree(tmp_path / "first-machine")  # And nobody says goodbye.
    on_another_machine(monkeypatch, tmp_path)
    results = trained(RunTrainable(config=configuration(tiny, home)))
    assert results[0]["resumed_at"] == 3
    assert [result["update"] for result in results] == [4, 5, 6]
    assert results[-1]["final_loss"] == expected


def test_a_torn_checkpoint_in_the_home_is_passed_over(tiny, home, tmp_path, monkeypatch, expected):
    lost = RunTrainable(config=configuration(tiny, home))
    for _ in range(3):
        lost.train()
    newest = f"{CHECKPOINTS}/000000003.pt"
    home.write(newest, home.read(newest)[:-100])
    on_another_machine(monkeypatch, tmp_path)
    results = trained(RunTrainable(config=configuration(tiny, home)))
    assert results[0]["resumed_at"] == 2
    assert results[-1]["final_loss"] == expected


def test_asked_to_stop_it_has_saved_when_its_result_is_out(tiny, home, monkeypatch):
    monkeypatch.setattr(staging, "LOOK_SECONDS", 0.0)
    run = RunTrainable(config=configuration(tiny, home, checkpoint_seconds=1e9))
    run.train()
    assert home.all(CHECKPOINTS) == {}
    home.write("attempts/stop", b"")
    run.train()
    assert f"{CHECKPOINTS}/000000002.json" in home.all(CHECKPOINTS)


def test_a_dataset_that_is_missing_is_a_failure_that_names_it(tiny, home):
    config = configuration(tiny, home)
    config["places"]["dataset"] = "datasets/nothing"
    result = RunTrainable(config=config).train()
    assert "no dataset `datasets/nothing`" in result["failure"]
