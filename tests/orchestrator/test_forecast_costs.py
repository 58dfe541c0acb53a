"""The forecast against counted GFLOP, and against seconds and memory measured on a GPU."""

import itertools
import json
from pathlib import Path

import pytest

from orchestrator.plan.cost.arithmetic import forward_gflop, training_gflop
from orchestrator.plan.cost.forecast import (
    CPU,
    H200,
    Measured,
    forecast,
    gpu_of,
    memory_gb,
    peaks,
    resources,
)
from orchestrator.plan.plan import Cell, load_plan
from trainables.config import AdmConfig, DeepLabConfig, SegFormerConfig

ON_GPU = json.loads(
    (Path(__file__).parents[2] / "benchmarks" / "results" / "gpu.json").read_text()
)


@pytest.fixture(scope="module")
def plan():
    return load_plan("table2")


@pytest.fixture(scope="module")
def paper(plan):
    return forecast(plan)


@pytest.mark.parametrize(
    ("channels", "pixels", "gflop"),
    # Counted by PyTorch on guided-diffusion's UNet.
    [(32, 32, 0.55), (32, 64, 2.20), (64, 64, 8.75), (128, 64, 35.2), (128, 256, 563.5)],
)
def test_the_adm_is_counted_as_pytorch_counts_it(channels, pixels, gflop):
    counted = forward_gflop(AdmConfig(channels=channels), pixels)
    assert counted == pytest.approx(gflop, rel=0.01)


def test_deeplab_and_segformer_have_their_measured_sizes():
    assert training_gflop(DeepLabConfig(), 256) == pytest.approx(245, rel=0.01)
    assert training_gflop(SegFormerConfig(), 256) == pytest.approx(109, rel=0.01)


def test_half_the_side_costs_a_quarter():
    for network in (DeepLabConfig(), SegFormerConfig()):
        assert forward_gflop(network, 128) == pytest.approx(forward_gflop(network, 256) / 4)


def test_the_whole_table_takes_what_the_cost_model_says(paper):
    # 6 of 40,000 and 3 of 90,000 updates of an ADM at 1.306 s, 2 and 1 of a DeepLab at 0.129 s and of a
    # SegFormer at 0.248 s, and the evaluations of three supervised ADMs.
    adm, others = 6 * 40_000 + 3 * 90_000, 2 * 40_000 + 90_000
    seconds = adm * 1.306 + others * (0.129 + 0.248)
    assert paper.hours("pretraining") == pytest.approx(seconds / 3600, rel=0.01)
    assert paper.hours("pretraining") == pytest.approx(203, rel=0.01)
    assert paper.hours("fine-tuning") == pytest.approx(6.4, rel=0.03)


def test_bf16_takes_what_the_cost_model_says():
    plan = load_plan("table2", overrides=["compute.precision=bf16"])
    assert forecast(plan).hours("pretraining") == pytest.approx(156, rel=0.02)


@pytest.mark.parametrize(
    ("label", "training", "updates"),
    [
        ("pretrain hybrid isic2018", "adm/hybrid", 40_000),
        ("pretrain diffusion celebamask_hq", "adm/hybrid", 90_000),
        ("pretrain supervised deeplab shenzhen", "deeplab/supervised", 40_000),
        ("pretrain supervised segformer celebamask_hq", "segformer/supervised", 90_000),
    ],
)
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_pretraining_takes_its_updates_as_measured(label, training, updates, precision):
    plan = load_plan("table2", overrides=[f"compute.precision={precision}"])
    (key,) = [run.key for run in plan.runs if run.label == label]
    figures = ON_GPU["trainings"][f"{training}/{precision}"]
    assert figures["images_per_update"] == 64
    measured = figures["seconds_per_full_update"]
    assert forecast(plan).seconds[key] == pytest.approx(updates * measured, rel=0.05)


@pytest.mark.parametrize(("task", "images"), [("hybrid", (64, 32)), ("supervised", (64, 16))])
def test_a_full_update_of_an_adm_follows_from_the_mixed_ones_in_two_ways(task, images):
    full, small = images
    for name, figures in ON_GPU["trainings"].items():
        if name.startswith(f"adm/{task}"):
            # A median of two full and two small updates lies halfway between one of each.
            halfway = figures["median_of_mixed_updates"]
            corrected = figures["seconds_per_full_update"]
            assert corrected == pytest.approx(halfway * 2 * full / (full + small), abs=1e-3)
            assert corrected == pytest.approx(figures["slowest"], rel=0.08)
            rate = 64 * training_gflop(AdmConfig(), 256) / 1000 / corrected
            assert figures["tflop_per_s"] == pytest.approx(rate, rel=0.01)


@pytest.mark.parametrize("family", ["adm", "deeplab", "segformer"])
def test_an_epoch_of_a_fine_tuning_is_about_what_was_measured(family):
    network = {"adm": AdmConfig, "deeplab": DeepLabConfig, "segformer": SegFormerConfig}[family]()
    gflop = 20 * training_gflop(network, 256) + 20 * forward_gflop(network, 256)
    epoch = gflop / 1000 / H200.tflop_per_s[family] + H200.seconds_per_epoch
    measured = ON_GPU["trainings"][f"{family}/finetune/tf32"]["seconds_per_epoch"]
    assert epoch == pytest.approx(measured, abs=0.15)


def test_an_iteration_of_ledm_takes_what_was_measured(plan, paper):
    # Four epochs of 20 images of 256 px in batches of 64 pixels, then until the rule fires.
    iterations = 4 * 20 * 256**2 / 64 + 85
    seconds = paper.seconds[plan.table[Cell("hybrid_ledm", "ph2", 0)]]
    expected = iterations * ON_GPU["ledm"]["ms_per_iteration"] / 1000 + 60
    assert seconds == pytest.approx(expected, rel=0.05)


def test_the_longest_path_is_celeba_and_one_fine_tuning(plan, paper):
    first = max(plan.runs, key=lambda run: paper.remaining[run.key])
    assert first.source == "celebamask_hq"
    assert paper.longest_path / 3600 == pytest.approx(33.2, rel=0.02)


def test_remaining_path_of_a_pretraining_ends_with_its_longest_fine_tuning(plan, paper):
    for start in plan.runs[:15]:
        after = max(paper.seconds[run.key] for run in plan.runs if run.needs == start.key)
        assert paper.remaining[start.key] == pytest.approx(paper.seconds[start.key] + after)


def test_more_devices_help_until_the_longest_path(paper):
    assert paper.wall_seconds(1) == pytest.approx(paper.hours() * 3600)
    times = [paper.wall_seconds(slots) for slots in (1, 2, 4, 8, 180)]
    assert all(a >= b for a, b in itertools.pairwise(times))
    assert times[-1] == pytest.approx(paper.longest_path)
    assert times[1] >= times[0] / 2


def test_no_slot_is_refused(paper):
    with pytest.raises(ValueError, match="slots must be > 0"):
        paper.wall_seconds(0)


def test_finished_runs_take_no_time(plan, paper):
    pretrained = [run.key for run in plan.runs[:15]]
    rest = forecast(plan, finished=pretrained)
    assert rest.hours() == pytest.approx(paper.hours("fine-tuning"))
    assert rest.wall_seconds(1) == pytest.approx(rest.hours() * 3600)


def test_what_was_measured_scales_runs_of_the_same_kind_only(plan, paper):
    done = plan.by_key[plan.table[Cell("diffusion_ft", "ph2", 0)]]
    slow = Measured(done.spec, H200.name, 2 * paper.seconds[done.key])
    learned = forecast(plan, measured=[slow])
    ratio = {key: learned.seconds[key] / paper.seconds[key] for key in paper.seconds}
    for cell, key in plan.table.items():
        adm = cell.method in ("scratch_adm", "diffusion_ft", "supervised_ft", "hybrid_ft")
        assert ratio[key] == pytest.approx(2 if adm else 1)
    assert all(ratio[run.key] == pytest.approx(1) for run in plan.runs[:15])


def test_the_gpu_of_a_home_is_the_one_that_most_runs_were_on(plan, paper):
    done = plan.by_key[plan.table[Cell("diffusion_ft", "ph2", 0)]]
    seen = [
        Measured(done.spec, name, 1000.0) for name in ("NVIDIA A100", "NVIDIA L4", "NVIDIA A100")
    ]
    assert gpu_of([]) == gpu_of([Measured(done.spec, CPU.name, 7.0)]) == H200
    a100 = gpu_of([*seen, Measured(done.spec, CPU.name, 7.0)])
    assert a100.name == "NVIDIA A100"
    learned = forecast(plan, device=a100, measured=seen)
    assert learned.seconds[done.key] == pytest.approx(1000)
    assert learned.seconds[plan.runs[0].key] == pytest.approx(paper.seconds[plan.runs[0].key])


def test_measurements_of_another_device_teach_nothing(plan, paper):
    done = plan.runs[0]
    elsewhere = Measured(done.spec, CPU.name, 7.0)
    assert forecast(plan, measured=[elsewhere]).seconds == paper.seconds


@pytest.mark.parametrize(
    ("label", "training"),
    [
        ("pretrain hybrid isic2018", "adm/hybrid"),
        ("hybrid_ft ph2 seed 0", "adm/finetune"),
        ("pretrain supervised deeplab isic2018", "deeplab/supervised"),
        ("i1k_deeplab ph2 seed 0", "deeplab/finetune"),
        ("pretrain supervised segformer isic2018", "segformer/supervised"),
        ("i1k_segformer ph2 seed 0", "segformer/finetune"),
    ],
)
def test_gpu_memory_is_what_was_measured(plan, label, training):
    (run,) = [run for run in plan.runs if run.label == label]
    measured = ON_GPU["trainings"][f"{training}/tf32"]["peak_gb"]
    assert memory_gb(run.spec) == pytest.approx(measured, rel=0.03)


def test_ledm_fits_where_it_is_put(plan):
    (run,) = [run for run in plan.runs if run.label == "hybrid_ledm ph2 seed 0"]
    assert ON_GPU["ledm"]["peak_gb"] < memory_gb(run.spec) < 1.6 * ON_GPU["ledm"]["peak_gb"]


def test_small_fine_tunings_share_a_gpu_and_pretrainings_do_not(plan):
    by_label = {run.label: run.spec for run in plan.runs}
    assert resources(by_label["pretrain hybrid isic2018"], gpu_gb=80).gpus == 1
    assert resources(by_label["pretrain supervised deeplab isic2018"], gpu_gb=80).gpus == 1
    assert resources(by_label["hybrid_ft ph2 seed 0"], gpu_gb=80).gpus == 1
    assert resources(by_label["i1k_deeplab ph2 seed 0"], gpu_gb=16).gpus == pytest.approx(1 / 2)
    assert resources(by_label["hybrid_ledm ph2 seed 0"], gpu_gb=None).gpus == 0


def test_the_demo_is_forecast_in_minutes_on_two_cores():
    demo = forecast(load_plan("table2", scale="demo"), device=CPU)
    assert 60 < demo.wall_seconds(2) < 30 * 60


def test_measured_memory_goes_before_the_model(plan):
    by_label = {run.label: run.spec for run in plan.runs}
    run = by_label["i1k_deeplab ph2 seed 0"]
    other_seed = by_label["i1k_deeplab ph2 seed 1"]
    elsewhere = by_label["i1k_deeplab dermis seed 0"]
    known = peaks(
        [
            Measured(run, "H200", 10.0, gpu_gb=2.0),
            Measured(elsewhere, "H200", 10.0, gpu_gb=3.0),
            Measured(by_label["hybrid_ft ph2 seed 0"], "H200", 10.0),  # Not told.
        ]
    )
    # The higher of two alike, and half a GB of CUDA's own: (3 + 0.5) 1.15 GB, of 16 GB three times.
    assert list(known.values()) == [3.0]
    assert resources(other_seed, gpu_gb=16, measured=known).gpus == pytest.approx(1 / 3)
    assert resources(other_seed, gpu_gb=9, measured=known).gpus == pytest.approx(1 / 2)
    pretraining = by_label["pretrain hybrid isic2018"]
    assert resources(pretraining, gpu_gb=80, measured=known).gpus == 1
