"""The forecast against the tables of the cost model: GFLOP, seconds, hours, memory."""

import itertools

import pytest

from orchestrator.costs import forward_gflop, training_gflop
from orchestrator.forecast import CPU, H100, Measured, forecast, memory_gb, peaks, resources
from orchestrator.plan import Cell, load_plan
from trainables.config import AdmConfig, DeepLabConfig, SegFormerConfig


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
    assert paper.hours("pretraining") == pytest.approx(170, rel=0.02)
    assert paper.hours("fine-tuning") == pytest.approx(4.8, rel=0.03)
    assert paper.hours() == pytest.approx(175, rel=0.02)


def test_bf16_takes_what_the_cost_model_says():
    plan = load_plan("table2", overrides=["compute.precision=bf16"])
    assert forecast(plan).hours("pretraining") == pytest.approx(95, rel=0.02)


@pytest.mark.parametrize(
    ("label", "hours"),
    [
        ("pretrain hybrid isic2018", 12.0),
        ("pretrain diffusion celebamask_hq", 27.1),
        ("pretrain supervised deeplab shenzhen", 1.9),
        ("pretrain supervised segformer celebamask_hq", 4.4),
    ],
)
def test_hours_of_a_pretraining(plan, paper, label, hours):
    (key,) = [run.key for run in plan.runs if run.label == label]
    assert paper.seconds[key] / 3600 == pytest.approx(hours, rel=0.03)


@pytest.mark.parametrize(
    ("method", "seconds"),
    [
        ("hybrid_ft", (129, 107, 112, 119, 164)),
        ("hybrid_ledm", (124, 119, 120, 122, 118)),
        ("i1k_deeplab", (66, 63, 63, 65, 95)),
        ("i1k_segformer", (66, 63, 63, 65, 95)),
    ],
)
def test_seconds_of_a_fine_tuning(plan, paper, method, seconds):
    got = [paper.seconds[plan.table[Cell(method, target, 0)]] for target in plan.targets]
    assert got == pytest.approx(seconds, rel=0.03)


def test_the_longest_path_is_celeba_and_one_fine_tuning(plan, paper):
    first = max(plan.runs, key=lambda run: paper.remaining[run.key])
    assert first.source == "celebamask_hq"
    assert paper.longest_path / 3600 == pytest.approx(27.5, rel=0.02)


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
    slow = Measured(done.spec, H100.name, 2 * paper.seconds[done.key])
    learned = forecast(plan, measured=[slow])
    ratio = {key: learned.seconds[key] / paper.seconds[key] for key in paper.seconds}
    for cell, key in plan.table.items():
        adm = cell.method in ("scratch_adm", "diffusion_ft", "supervised_ft", "hybrid_ft")
        assert ratio[key] == pytest.approx(2 if adm else 1)
    assert all(ratio[run.key] == pytest.approx(1) for run in plan.runs[:15])


def test_measurements_of_another_device_teach_nothing(plan, paper):
    done = plan.runs[0]
    elsewhere = Measured(done.spec, CPU.name, 7.0)
    assert forecast(plan, measured=[elsewhere]).seconds == paper.seconds


@pytest.mark.parametrize(
    ("label", "gb"),
    [
        ("pretrain hybrid isic2018", 53),
        ("hybrid_ft ph2 seed 0", 41),
        ("pretrain supervised deeplab isic2018", 18),
        ("pretrain supervised segformer isic2018", 23),
        ("hybrid_ledm ph2 seed 0", 3),
    ],
)
def test_gpu_memory(plan, label, gb):
    (run,) = [run for run in plan.runs if run.label == label]
    assert memory_gb(run.spec) == pytest.approx(gb, rel=0.03)


def test_small_fine_tunings_share_a_gpu_and_pretrainings_do_not(plan):
    by_label = {run.label: run.spec for run in plan.runs}
    assert resources(by_label["pretrain hybrid isic2018"], gpu_gb=80).gpus == 1
    assert resources(by_label["pretrain supervised deeplab isic2018"], gpu_gb=80).gpus == 1
    assert resources(by_label["hybrid_ft ph2 seed 0"], gpu_gb=80).gpus == 1
    assert resources(by_label["i1k_deeplab ph2 seed 0"], gpu_gb=16).gpus == pytest.approx(1 / 3)
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
            Measured(run, "H100", 10.0, gpu_gb=2.0),
            Measured(elsewhere, "H100", 10.0, gpu_gb=3.0),
            Measured(by_label["hybrid_ft ph2 seed 0"], "H100", 10.0),  # Not told.
        ]
    )
    # The higher of two alike, and half a GB of CUDA's own: (3 + 0.5) 1.15 GB, of 16 GB three times.
    assert list(known.values()) == [3.0]
    assert resources(other_seed, gpu_gb=16, measured=known).gpus == pytest.approx(1 / 3)
    assert resources(other_seed, gpu_gb=9, measured=known).gpus == pytest.approx(1 / 2)
    pretraining = by_label["pretrain hybrid isic2018"]
    assert resources(pretraining, gpu_gb=80, measured=known).gpus == 1
