"""Benchmarks that need a GPU, tried small on a CPU: whether the script works, not how fast anything is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
VARIANTS = ("tf32", "bf16, one layout, channels-last, fused AdamW and norm")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return the record and the profiles that the benchmark of a GPU's step writes."""
    out = tmp_path_factory.mktemp("benchmark") / "tiny.json"
    command = [sys.executable, BENCHMARKS / "gpu.py", "--tiny", "--updates", "2", "--out", out]
    only = ["--trainings", "adm/hybrid,adm/finetune", "--variants", ";".join(VARIANTS)]
    subprocess.run([*command, *only], check=True, timeout=600, stdout=subprocess.DEVNULL)
    return [json.loads(path.read_text()) for path in (out, out.with_name("tiny_profile.json"))]


def test_the_benchmark_of_a_gpus_step_times_full_updates_beside_a_plain_loop(measured):
    record, _ = measured
    assert list(record["trainings"]) == [
        f"adm/hybrid/{VARIANTS[0]}",
        f"adm/hybrid/{VARIANTS[1]}",
        f"adm/finetune/{VARIANTS[0]}",
    ]
    assert record["left_out"] == []
    updates = [
        *(f for n, f in record["trainings"].items() if "hybrid" in n),
        *record["plain_loop"].values(),
    ]
    for figures in updates:
        assert figures["images_per_update"] == record["images_per_update"] == 4
        seconds = figures["seconds_per_full_update"]
        assert figures["p10"] <= seconds <= figures["p90"] <= figures["slowest"]
        assert figures["images_per_s"] == pytest.approx(4 / seconds, rel=0.01)
    assert {"ledm", "sampling", "evaluation"} <= record.keys()
    assert "error" not in json.dumps(record)


def test_its_profile_names_what_takes_longest_and_how_much_is_moved(measured):
    record, profiles = measured
    profile = profiles[VARIANTS[1]]
    times = [each["ms"] for each in profile["longest"]]
    assert len(times) == 20
    assert times == sorted(times, reverse=True)
    assert sum(times) <= profile["ms"] * 1.001
    assert profile["launches"] >= sum(each["launches"] for each in profile["longest"])
    assert profile["gb"] > 0
    assert any("convolution" in name for name in profile["gb_by_operation"])
    assert record["date"] == profiles["date"]


def timetable(*arguments):
    """Return what the benchmark of a GPU's step would measure, and when, in seconds."""
    command = [sys.executable, BENCHMARKS / "gpu.py", "--dry-run", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=300).stdout)


TOGETHER = "one layout, channels-last, fused AdamW"
ALONE = ("one layout", "fused AdamW", "TF32 products", "any kernel")
IN_FIVE_MINUTES = {
    *(f"adm/hybrid/tf32, {name}" for name in ALONE),
    *(f"adm/hybrid/bf16, {TOGETHER}{more}" for more in (" and norm", ", compiled")),
}


@pytest.mark.parametrize("minutes", [5, 7.5])
def test_every_setting_is_timed_alone_and_together_compiling_included(minutes):
    told = timetable("--minutes", str(minutes))
    assert told["over_at"] <= 60 * minutes
    measured = {name.partition(": ")[2] for name in told["begins_at"]}
    assert measured >= IN_FIVE_MINUTES
    assert ("segformer/finetune/tf32, CUDA graphs" in measured) == (minutes > 5)


def test_what_there_is_no_time_for_is_left_out_and_named():
    told = timetable("--minutes", "1")
    assert told["over_at"] <= 60
    assert told["left_out"]
    whole = timetable("--minutes", "600")
    assert whole["left_out"] == []
    assert {*told["begins_at"], *told["left_out"]} == set(whole["begins_at"])


def test_bytes_are_those_that_go_in_and_come_out_and_views_move_none(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from profiling import Traffic

    numbers = torch.zeros(1000)
    with Traffic() as traffic:
        (numbers.view(10, 100).t() + 1).relu_()
    # Adding reads and writes 4,000 bytes; rectifying in place does too, and is told thrice its tensor.
    assert traffic.bytes["aten.add.Tensor"] == 8000
    assert not [name for name in traffic.bytes if "view" in name or ".t." in name]
