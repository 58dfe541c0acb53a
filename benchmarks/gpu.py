"""What does a run of Table 2 take on this GPU, in time and memory, next to the forecast?

Real runs of the paper's networks at the paper's sizes (256 px; an ADM's batch of 64 in micro-batches
of 16), on generated images, for some updates each: seconds per update with the device synchronised,
the rate that this is on the arithmetic the forecast counts, the peak of the allocator beside the
model of memory, in TF32 and bfloat16, with channels-last, with `torch.compile`, and without
deterministic kernels. Each variant goes on with the same process, one after the other, so that they
can be compared.

    python benchmarks/gpu.py                   # --minutes bounds it

Units: seconds, TFLOP (10^12) per second, GB (10^9 bytes).
"""

import argparse
import gc
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
from ledm_memory import write_weights
from recording import RESULTS, today

from orchestrator.costs import forward_gflop, training_gflop
from orchestrator.forecast import memory_gb
from trainables.config import (
    AdmConfig,
    ComputeConfig,
    DeepLabConfig,
    FineTuningConfig,
    LedmConfig,
    PretrainedRef,
    PretrainingConfig,
    RunSpec,
    SegFormerConfig,
)
from trainables.data.datasets import all_datasets
from trainables.data.prepare import prepare
from trainables.diffusion.sampling import sample_joint
from trainables.gpu_memory import begin_peak, peak_gb
from trainables.loop import Places, Run
from trainables.networks import build
from trainables.registry import load

RESULT = RESULTS / "gpu.json"
SIDE, SOURCE_IMAGES, TARGET_IMAGES = 256, 160, 60
NETWORKS = {
    "adm": AdmConfig(),
    "deeplab": DeepLabConfig(backbone="random"),
    "segformer": SegFormerConfig(backbone="random"),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "tf32": {},
    "tf32, any kernel": {"deterministic": False},
    "tf32, channels-last": {"channels_last": True},
    "bf16": {"precision": "bf16"},
    "bf16, channels-last": {"precision": "bf16", "channels_last": True},
    "tf32, compiled": {"compile": True},
    "bf16, channels-last, compiled": {"precision": "bf16", "channels_last": True, "compile": True},
}
TRAININGS = (
    ("adm", "hybrid"),
    ("adm", "supervised"),
    ("adm", "finetune"),
    ("deeplab", "supervised"),
    ("deeplab", "finetune"),
    ("segformer", "supervised"),
    ("segformer", "finetune"),
)


def main() -> None:
    arguments = parsed()
    record: dict[str, Any] = {
        "date": today(),
        "device": torch.cuda.get_device_name(),
        "memory_gb": round(torch.cuda.mem_get_info()[1] / 1e9, 1),
        "torch": version("torch"),
        "trainings": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        data = {
            stage: prepare(all_datasets()[name], None, home, image_size=SIDE, images=images)
            for stage, name, images in (
                ("pretraining", "isic2018-like", SOURCE_IMAGES),
                ("fine-tuning", "ph2-like", TARGET_IMAGES),
            )
        }
        for name, figures in measured(arguments, home, data):
            record["trainings"][name] = figures
            print(name, json.dumps(figures), flush=True)
            written(record, arguments.out)
        record["ledm"] = ledm(home, data)
        record["sampling"] = sampling()
    print(json.dumps({name: record[name] for name in ("ledm", "sampling")}))
    written(record, arguments.out)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=6, help="timed, after two that warm up")
    parser.add_argument("--trainings", default="", help="only these, as FAMILY/TASK,...")
    parser.add_argument("--variants", default="", help="only these, separated by semicolons")
    parser.add_argument("--minutes", type=float, default=6.0, help="begin no variant after")
    parser.add_argument("--out", type=Path, default=RESULT, help="file to write")
    return parser.parse_args()


def written(record: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measured(
    arguments: argparse.Namespace, home: Path, data: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the figures of every training in every variant; the plain one of each comes first."""
    end = time.monotonic() + 60 * arguments.minutes
    asked = [v for v in arguments.variants.split(";") if v] or list(VARIANTS)
    trainings = [
        t for t in TRAININGS if not arguments.trainings or "/".join(t) in arguments.trainings
    ]
    for variant in asked:
        for family, task in trainings:
            if time.monotonic() > end:
                return
            spec = spec_of(family, task, data, ComputeConfig(**VARIANTS[variant]))
            name = f"{family}/{task}/{variant}"
            try:
                yield name, trained(spec, home, data, arguments.updates)
            except (RuntimeError, torch.OutOfMemoryError) as error:
                yield name, {"error": f"{type(error).__name__}: {error}"[:300]}
            gc.collect()
            torch.compiler.reset()
            torch.cuda.empty_cache()


def spec_of(family: str, task: str, data: dict[str, Any], compute: ComputeConfig) -> RunSpec:
    """Return the paper's run of a kind, on generated images."""
    stage = "fine-tuning" if task in ("finetune", "ledm") else "pretraining"
    prepared = data[stage]
    training: Any = {"finetune": FineTuningConfig(), "ledm": LedmConfig()}.get(task)
    if training is None:
        training = PretrainingConfig(micro_batch=16 if family == "adm" else None)
    return RunSpec(
        stage=stage,
        task=task,
        network=NETWORKS[family],
        dataset=prepared.ref(SIDE),
        seed=0,
        training=training,
        compute=compute,
        pretrained=PretrainedRef(key="0" * 16, task="hybrid", classes=2)
        if task == "ledm"
        else None,
    )


def places_of(spec: RunSpec, home: Path, data: dict[str, Any]) -> Places:
    prepared = data[spec.stage]
    return Places(
        dataset=home / "datasets" / f"{prepared.name}-{prepared.stored_side}",
        checkpoints=home / "run",
        artifacts=home / "run",
        pretrained=home / "pretrained",
        device="cuda",
    )


def trained(spec: RunSpec, home: Path, data: dict[str, Any], updates: int) -> dict[str, Any]:
    """Return what an update takes, and the peak of memory, evaluation included if it falls due."""
    begin_peak("cuda")
    began = time.monotonic()
    run: Run = load(spec.task)(spec, places_of(spec, home, data))
    for _ in range(2):
        run.advance()
    torch.cuda.synchronize()
    start = time.monotonic() - began
    training = spec.training
    assert isinstance(training, PretrainingConfig | FineTuningConfig)
    gflop = training.batch * training_gflop(spec.network, SIDE)
    together, name = 1, "seconds_per_update"
    if isinstance(training, FineTuningConfig):
        # An epoch is two updates and an evaluation of the validation part.
        together, name = math.ceil(training.train_images / training.batch), "seconds_per_epoch"
        validation = (TARGET_IMAGES - training.train_images) // 2
        gflop = training.train_images * training_gflop(spec.network, SIDE)
        gflop += validation * forward_gflop(spec.network, SIDE)
    times = [timed(run, together) for _ in range(updates)]
    return {
        name: round(median(times), 4),
        "slowest": round(max(times), 4),
        "tflop_per_s": round(gflop / median(times) / 1000, 1),
        "seconds_to_third_update": round(start, 1),
        "peak_gb": round(peak_gb("cuda") or 0.0, 2),
        "forecast_gb": round(memory_gb(spec), 2),
    }


def timed(run: Run, updates: int) -> float:
    began = time.monotonic()
    for _ in range(updates):
        run.advance()
    torch.cuda.synchronize()
    return time.monotonic() - began


def ledm(home: Path, data: dict[str, Any]) -> dict[str, Any]:
    """Return what LEDM's features and its iterations take, in TF32."""
    spec = spec_of("adm", "ledm", data, ComputeConfig())
    places = places_of(spec, home, data)
    write_weights(spec, places)
    begin_peak("cuda")
    began = time.monotonic()
    run: Run = load("ledm")(spec, places)
    torch.cuda.synchronize()
    ready = time.monotonic()
    for _ in range(1000):
        run.advance()
    torch.cuda.synchronize()
    trained_at = time.monotonic()
    return {
        "seconds_features_of_20_images": round(ready - began, 2),
        "ms_per_iteration": round(trained_at - ready, 3),
        "peak_gb": round(peak_gb("cuda") or 0.0, 2),
        "forecast_gb": memory_gb(spec),
    }


def sampling() -> dict[str, Any]:
    """Return what a step of DPM-Solver takes for the 8 samples of a hybrid pretraining."""
    network = build(AdmConfig(), 5).to("cuda")
    times = []
    for steps in (3, 20):
        torch.cuda.synchronize()
        began = time.monotonic()
        sample_joint(network, outputs=5, size=SIDE, count=8, steps=steps, seed=0, device="cuda")
        torch.cuda.synchronize()
        times.append(time.monotonic() - began)
    return {"seconds_per_step_of_8": round((times[1] - times[0]) / 17, 3)}


if __name__ == "__main__":
    main()
