"""Training on a GPU: the same bits again, after an interruption too, and what the record says of it.

Needs CUDA, and is skipped without: `pytest -m gpu`.
"""

import gc
import json
import os
import warnings
from dataclasses import replace

# Before CUDA starts: cuBLAS is deterministic only with a fixed workspace.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch

from tests.trainables.interrupted import assert_same, outcome
from trainables.config import (
    AdmConfig,
    ComputeConfig,
    DeepLabConfig,
    FineTuningConfig,
    LedmConfig,
    OptimizerConfig,
    PretrainingConfig,
    SamplingConfig,
    SegFormerConfig,
)
from trainables.data.feeding.batches import pinned, tensors_on
from trainables.execute import Session, execute
from trainables.networks.fused_norm import norm_silu
from trainables.tune_adapter import RunTrainable

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]

SIDE = 64  # Pixels: attention over 1,024 places, where an order of summation shows.
ADM = AdmConfig(
    channels=64,
    multipliers=(1, 2, 2),
    blocks_per_level=1,
    attention_rates=(2, 4),
    head_channels=32,
)
NETWORKS = {
    "adm": ADM,
    "deeplab": DeepLabConfig(backbone="random"),
    "segformer": SegFormerConfig(backbone="random"),
}
STILL = {
    "adm": {"dropout": 0.0},
    "deeplab": {},
    "segformer": {"dropout": 0.0, "drop_path": 0.0},
}
TASKS = ("diffusion", "hybrid", "supervised", "finetune", "ledm")
RUNS = [("adm", task) for task in TASKS]
RUNS += [
    (family, task) for family in ("deeplab", "segformer") for task in ("supervised", "finetune")
]


def training(task):
    if task == "finetune":
        optimizer = OptimizerConfig(lr=1e-3)
        return FineTuningConfig(train_images=12, batch=6, optimizer=optimizer, max_epochs=3)
    if task == "ledm":
        return LedmConfig(train_images=12, blocks=(0, 2), steps=(50, 250), max_iterations=40)
    return PretrainingConfig(
        updates=8,
        batch=16,
        optimizer=OptimizerConfig(lr=1e-3, warmup_updates=2),
        ema=task == "diffusion",
        evaluate_every=4,
        log_every=1,
        sampling=SamplingConfig(images=2, steps=3),
    )


@pytest.fixture(scope="module")
def data(family_of_data):
    return family_of_data(SIDE, source=40, target=30)


@pytest.fixture(scope="module")
def spec_of(data):
    """Return a function that makes the spec of a run."""

    def make(family, task, *, network=None, pretrained=None, **compute):
        return data.spec(
            task,
            network=network or NETWORKS[family],
            training=training(task),
            pretrained=pretrained,
            compute=ComputeConfig(**compute),
        )

    return make


@pytest.fixture(scope="module")
def hybrid(data, spec_of, tmp_path_factory):
    """Return the spec of a finished hybrid pretraining and the folder of its artifacts."""
    spec = spec_of("adm", "hybrid")
    places = on_gpu(data.places(tmp_path_factory.mktemp("hybrid"), "hybrid"))
    execute(spec, places)
    return spec, places.artifacts


@pytest.fixture
def made(data, spec_of, hybrid, tmp_path_factory):
    """Return a function that makes a spec, and one that makes fresh places for it."""

    def make(family, task, **compute):
        source, artifacts = hybrid if task == "ledm" else (None, None)
        spec = spec_of(family, task, pretrained=source, **compute)
        return spec, lambda: on_gpu(data.places(tmp_path_factory.mktemp(task), task, artifacts))

    return make


def on_gpu(places):
    return replace(places, device="cuda")


def record(places):
    return json.loads((places.artifacts / "result.json").read_text())


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize(("family", "task"), RUNS)
def test_interrupted_and_gone_on_with_it_ends_with_the_same_bits(made, family, task, precision):
    assert_goes_on(made(family, task, precision=precision))


LAID_OUT = {"one_layout": True, "channels_last": True}
WAYS = {
    "one layout": {"one_layout": True},
    "one layout, channels-last": LAID_OUT,
    "fused normalisation": {**LAID_OUT, "fused_norm": True},
    "fused AdamW": {"fused_adamw": True},
    "TF32 in matrix products": {"tf32_matmul": True},
    "compiled": {"compile": True},
    "compiled, as CUDA graphs": {"compile": "reduce-overhead"},
    "compiled in bf16, one layout": {**LAID_OUT, "precision": "bf16", "compile": True},
    "all in bf16": {
        **LAID_OUT,
        "precision": "bf16",
        "fused_norm": True,
        "fused_adamw": True,
        "tf32_matmul": True,
        "bf16_evaluation": True,
    },
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("task", ["hybrid", "supervised"])
def test_each_way_to_compute_goes_on_with_the_same_bits(made, task, way):
    assert_goes_on(made("adm", task, **WAYS[way]))


@pytest.mark.parametrize("family", ["deeplab", "segformer"])
@pytest.mark.parametrize("compile", [True, "reduce-overhead"])
def test_a_compiled_fine_tuning_goes_on_with_the_same_bits(made, family, compile):
    assert_goes_on(made(family, "finetune", compile=compile))


def test_graphs_add_the_gradients_of_micro_batches_up(data, spec_of, tmp_path):
    # Gradients of the first part must not lie where the graph of the second writes.
    network = ADM.model_copy(update={"dropout": 0.0})
    norms = []
    for compile in (False, "reduce-overhead"):
        spec = spec_of("adm", "hybrid", network=network, compile=compile, precision="fp32")
        places = replace(on_gpu(data.places(tmp_path / str(compile), "hybrid")), micro_batch=4)
        run = Session(spec, places).run
        without_zeros(run.network)
        for _ in range(5):
            run.advance()
        norms.append([float(weights.norm()) for weights in run.final_weights().values()])
    assert norms[1] == pytest.approx(norms[0], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_normalisation_computes_on_a_gpu_what_the_modules_do(dtype):
    maps = (torch.randn(2, 96, 70, 33, device="cuda") * 3 + 5).to(dtype)
    maps = maps.contiguous(memory_format=torch.channels_last).requires_grad_()
    norm = torch.nn.GroupNorm(32, 96).cuda()
    pair = tuple(torch.randn(2, 96, device="cuda", requires_grad=True) for _ in range(2))
    weights = torch.randn(maps.shape, device="cuda")
    results = []
    for given, fused in ((maps, True), (maps.detach().float().requires_grad_(), False)):
        answer = norm_silu(given, norm, scale_shift=pair, fused=fused)
        inputs = (given, norm.weight, norm.bias, *pair)
        gradients = torch.autograd.grad(answer, inputs, weights.to(answer.dtype))
        results.append([each.float() for each in (answer, *gradients)])
    rounding = 2e-5 if dtype == torch.float32 else 2e-2
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() <= rounding * other.abs().max()


def test_images_on_a_gpu_have_the_values_of_a_cpu():
    levels = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 16, 16, 3)
    labels = torch.zeros(1, 16, 16, dtype=torch.uint8)
    expected, _ = tensors_on("cpu", levels, labels)
    assert torch.equal(tensors_on("cuda", *pinned((levels, labels)))[0].cpu(), expected)


def assert_goes_on(given):
    """A run that is left at three moments ends with the bits of one that never was."""
    spec, fresh_places = given
    unbroken, broken = fresh_places(), fresh_places()
    with warnings.catch_warnings():
        # PyTorch warns of a kernel that adds up in an order of its own.
        warnings.filterwarnings("error", message=".*determinis.*")
        result = execute(spec, unbroken)
        for update in (1, result.updates // 2, result.updates - 1):
            session = Session(spec, broken, checkpoint_seconds=0)
            while session.run.update < update:
                session.advance_for(0)
            session.save()
            del session
        execute(spec, broken)
    assert record(broken)["resumed_at"] == result.updates - 1
    assert_same(outcome(broken), outcome(unbroken))


@pytest.mark.parametrize("family", NETWORKS)
def test_a_gpu_trains_as_a_cpu_does(data, spec_of, tmp_path, family):
    # No dropout: devices draw it from streams of their own. What is left differs by rounding.
    network = NETWORKS[family].model_copy(update=STILL[family])
    spec = spec_of(family, "finetune", network=network, precision="fp32")
    losses = {}
    for device in ("cpu", "cuda"):
        places = data.places(tmp_path / device, spec.task)
        session = Session(spec, replace(places, device=device))
        for _ in range(2):  # An epoch: the first loss alone, of a head of zeros, says nothing.
            session.advance_for(0)
        losses[device] = [point.value for point in session.run.history if point.name == "loss"]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-2)


def test_images_and_timesteps_are_those_of_a_cpu(data, spec_of, tmp_path):
    # The network still answers zeros, so that the loss is the images' and the weights' of their SNR.
    spec = spec_of("adm", "hybrid", precision="fp32")
    losses = {}
    for device in ("cpu", "cuda"):
        places = data.places(tmp_path / device, spec.task)
        session = Session(spec, replace(places, device=device))
        session.advance_for(0)
        losses[device] = [point.value for point in session.run.history]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)


def without_zeros(network):
    """Draw the weights that start as zeros, which would hide everything before them."""
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        if weight.dim() > 1 and not weight.any():
            weight.data.copy_(torch.empty(weight.shape).normal_(std=0.05, generator=generator))


@pytest.mark.parametrize(
    "compute",
    [
        {"channels_last": True},
        {"precision": "bf16", "channels_last": True},
        {"compile": True},
        {"one_layout": True},
        {"one_layout": True, "channels_last": True, "fused_norm": True},
        {"precision": "bf16", "one_layout": True, "channels_last": True, "fused_norm": True},
    ],
    ids=[
        "channels-last",
        "bf16-channels-last",
        "compile",
        "one-layout",
        "fused-norm",
        "bf16-fused-norm",
    ],
)
@pytest.mark.parametrize("family", NETWORKS)
def test_what_is_meant_to_be_faster_computes_the_same_function(
    data, spec_of, tmp_path, family, compute
):
    losses = []
    for place, asked in (("plain", {"precision": "fp32"}), ("asked", compute)):
        spec = spec_of(family, "finetune", **asked)
        session = Session(spec, on_gpu(data.places(tmp_path / place, "finetune")))
        without_zeros(session.run.network.eval())
        # As many as a batch has: others are not compiled for.
        images_BCHW, _ = session.run.target.batch(session.run.target.train[:6])
        t_B = torch.zeros(6, dtype=torch.long, device="cuda")
        with torch.no_grad():
            losses.append(session.run._answer(images_BCHW.cuda(), t_B).cpu())
    error = (losses[1] - losses[0]).norm() / losses[0].norm()
    # One product of matrices in TF32 is off by 3e-4, in bfloat16 by 3e-3; here are dozens in a row.
    assert error < (1e-1 if compute.get("precision") == "bf16" else 1e-2)


def test_the_record_tells_device_memory_and_energy(made):
    spec, fresh_places = made("adm", "diffusion")
    places = fresh_places()
    execute(spec, places)
    told = record(places)
    weights = sum(tensor.nbytes for tensor in outcome(places)[0].values())
    assert told["environment"]["device"] == torch.cuda.get_device_name()
    assert 4 * weights / 1e9 < told["gpu_gb"] < torch.cuda.mem_get_info()[1] / 1e9
    assert told["joules"] > 0  # A board of hundreds of watts; counted since Volta.


def test_out_of_memory_is_told_as_such_and_gives_the_memory_back(data, spec_of, tmp_path):
    spec = spec_of("adm", "hybrid")
    config = {
        "spec": spec.model_dump(mode="json"),
        "dataset": str(data.places(tmp_path, "hybrid").dataset),
        "folder": str(tmp_path),
    }
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    total = torch.cuda.mem_get_info()[1]
    # Enough for the weights and their gradients, too little for the activations.
    torch.cuda.set_per_process_memory_fraction((before + 0.4e9) / total)
    try:
        trainable = RunTrainable(config=config)
        report = trainable.train()
        assert json.loads(report["failure"])["kind"] == "out_of_memory"
        assert torch.cuda.memory_allocated() <= before + 1e6
        spec = spec.model_copy(
            update={"training": spec.training.model_copy(update={"batch": 2, "updates": 2})}
        )
        trainable.reset({**config, "spec": spec.model_dump(mode="json")})
        assert "final_loss" in trainable.train()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_gpu_run_goes_on_where_a_checkpoint_of_a_cpu_was_taken(data, spec_of, tmp_path):
    spec = spec_of("adm", "hybrid")
    on_cpu = data.places(tmp_path, "hybrid")
    session = Session(spec, on_cpu, checkpoint_seconds=0)
    session.advance_for(0)
    session.save()
    result = execute(spec, on_gpu(on_cpu))
    assert result.updates == spec.training.updates
    assert record(on_cpu)["resumed_at"] == 1
