"""What does a run of Table 2 take on this GPU, in time and memory, next to a plain loop and the forecast?

Real runs of the paper's networks at the paper's sizes (256 px; an ADM's batch of 64 in micro-batches
of 16), on generated images, with every tensor that starts at zero drawn, since products with zeros
are cheaper. 192 images and nothing held out, so that every update is one of 64 images: the record says
how many it saw. Of each training and each way to compute it: seconds per update with the device
synchronised (percentiles), images per second, the rate that this is on the arithmetic the forecast
counts, the peak of the allocator beside the model of memory. In the same process

- the peer: diffusers' ADM under autocast in a plain loop, no determinism, batches on the device;
- the profile of one update (`gpu_profile.json`): the 20 kernels that take longest, launches, and the
  bytes that operations read and write, each counted as if it did so once;
- evaluation, LEDM and sampling.

What matters most comes first, and nothing is begun that would not be over by `--minutes`, by the seconds that
each part is thought to take (`SECONDS`, of an H200); what is left out is named in the record.

    python benchmarks/gpu.py                   # at most 8 minutes on an H200; --minutes bounds it
    python benchmarks/gpu.py --dry-run         # what would be measured, and when; nothing is
    python benchmarks/gpu.py --tiny            # the same code on a CPU, to see that it works

Units: seconds, TFLOP (10^12) per second, GB (10^9 bytes).
"""

import argparse
import gc
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
from ledm_memory import write_weights
from plain_adm import DiffusersAdm, filled
from profiling import profiled
from recording import RESULTS, hardware, today

from orchestrator.plan.cost.arithmetic import forward_gflop, training_gflop
from orchestrator.plan.cost.forecast import memory_gb
from trainables.config import (
    AdmConfig,
    ComputeConfig,
    DeepLabConfig,
    FineTuningConfig,
    LedmConfig,
    NetworkConfig,
    PretrainedRef,
    PretrainingConfig,
    RunSpec,
    SegFormerConfig,
)
from trainables.data.datasets import all_datasets
from trainables.data.prepare import prepare
from trainables.diffusion.sampling import sample_joint
from trainables.evaluation import segment_with
from trainables.gpu_memory import begin_peak, peak_gb
from trainables.loop import Places, Run
from trainables.losses.diffusion import diffusion_loss
from trainables.networks import build
from trainables.networks.compiled import CannotCompileError
from trainables.registry import load
from trainables.seeding import set_numerics

RESULT = RESULTS / "gpu.json"
OUTPUTS = 5


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    device: str
    side: int
    batch: int
    micro_batch: int
    fine_tuning: FineTuningConfig
    ledm: LedmConfig
    ledm_iterations: int
    networks: dict[str, NetworkConfig]

    @property
    def source_images(self) -> int:
        """Three batches, so that an epoch has no smaller one."""
        return 3 * self.batch

    @property
    def target_images(self) -> int:
        return 3 * self.fine_tuning.train_images


PAPER = Size(
    device="cuda",
    side=256,
    batch=64,
    micro_batch=16,
    fine_tuning=FineTuningConfig(),
    ledm=LedmConfig(),
    ledm_iterations=1000,
    networks={
        "adm": AdmConfig(),
        "deeplab": DeepLabConfig(backbone="random"),
        "segformer": SegFormerConfig(backbone="random"),
    },
)
TINY = Size(
    device="cpu",
    side=32,
    batch=4,
    micro_batch=2,
    fine_tuning=FineTuningConfig(train_images=4, batch=2),
    ledm=LedmConfig(train_images=4, blocks=(0, 1), steps=(50,)),
    ledm_iterations=3,
    networks={
        "adm": AdmConfig(
            channels=32,
            multipliers=(1, 2),
            blocks_per_level=1,
            attention_rates=(2,),
            head_channels=32,
        ),
        "deeplab": DeepLabConfig(
            blocks=(1, 1, 1, 1), base_width=8, expansion=1, backbone="random"
        ),
        "segformer": SegFormerConfig(
            widths=(8, 16, 16, 16),
            depths=(1, 1, 1, 1),
            heads=(1, 1, 1, 1),
            decoder_channels=16,
            backbone="random",
        ),
    },
)

LAID_OUT: dict[str, Any] = {"one_layout": True, "channels_last": True}
BEST: dict[str, Any] = {**LAID_OUT, "fused_adamw": True}
BF16: dict[str, Any] = {"precision": "bf16"}
VARIANTS: dict[str, dict[str, Any]] = {
    "tf32": {},
    "bf16": BF16,
    "bf16, one layout, channels-last, fused AdamW and norm": {**BF16, **BEST, "fused_norm": True},
    "tf32, one layout, channels-last, fused AdamW and norm": {**BEST, "fused_norm": True},
    "tf32, one layout": {"one_layout": True},
    "tf32, fused AdamW": {"fused_adamw": True},
    "tf32, TF32 products": {"tf32_matmul": True},
    "tf32, any kernel": {"deterministic": False},
    "bf16, one layout, channels-last, fused AdamW, compiled": {**BF16, **BEST, "compile": True},
    "bf16, one layout, channels-last, fused AdamW": {**BF16, **BEST},
    "tf32, one layout, channels-last, fused AdamW": BEST,
    "tf32, CUDA graphs": {"compile": "reduce-overhead"},
    "tf32, compiled": {"compile": True},
    "bf16, one layout, channels-last": {**BF16, **LAID_OUT},
    "tf32, one layout, channels-last, fused AdamW, TF32 products": {**BEST, "tf32_matmul": True},
    "bf16, any kernel": {**BF16, "deterministic": False},
    "tf32, compiled, any kernel": {"compile": True, "deterministic": False},
    "bf16, one layout": {**BF16, "one_layout": True},
}
TRAININGS = (
    ("adm", "hybrid"),
    ("segformer", "finetune"),
    ("adm", "finetune"),
    ("adm", "supervised"),
    ("deeplab", "supervised"),
    ("deeplab", "finetune"),
    ("segformer", "supervised"),
)
# Which trainings a variant is timed in; the first only, unless it is said here.
TIMED_IN = {
    "tf32": TRAININGS,
    "bf16": TRAININGS,
    "tf32, CUDA graphs": TRAININGS[1:2],  # Bound by launches; an ADM at 256 px is not.
}
# That a part takes on an H200, to build, warm up and time: thought, not measured, and on the long side.
SECONDS = {"ledm": 12, "sampling": 6, "evaluation": 6, "plain_loop": 14, "adm": 15, "finetune": 12}
COMPILING = {"adm": 110, "segformer": 70}  # Besides, for a network of the paper's size.
PROFILED = ("bf16", "bf16, one layout, channels-last, fused AdamW and norm")


def main() -> None:
    arguments = parsed()
    if arguments.dry_run:
        print(json.dumps(timetable(arguments), indent=1))
        return
    size = TINY if arguments.tiny else PAPER
    end = time.monotonic() + 60 * arguments.minutes
    record: dict[str, Any] = {
        "date": today(),
        "device": torch.cuda.get_device_name() if size is PAPER else hardware(),
        "memory_gb": round(torch.cuda.mem_get_info()[1] / 1e9, 1) if size is PAPER else None,
        "torch": version("torch"),
        "images_per_update": size.batch,
    }
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(size, Path(folder), arguments.updates)
        for name, figures in everything(bench, arguments, end):
            section, _, rest = name.partition(": ")
            if rest:
                record.setdefault(section, {})[rest] = figures
            else:
                record[section] = figures
            print(name, json.dumps(figures), flush=True)
            written(record, arguments.out)
            record["left_out"] = bench.left_out
            if bench.profiles:
                beside = arguments.out.with_name(f"{arguments.out.stem}_profile.json")
                written(
                    {"date": record["date"], "device": record["device"], **bench.profiles}, beside
                )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=5, help="timed, after two that warm up")
    parser.add_argument("--trainings", default="", help="only these, as FAMILY/TASK,...")
    parser.add_argument("--variants", default="", help="only these, separated by semicolons")
    parser.add_argument("--minutes", type=float, default=7.5, help="all is over by then")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the timetable, measure nothing"
    )
    parser.add_argument("--tiny", action="store_true", help="small, on a CPU: does it work?")
    parser.add_argument("--out", type=Path, default=RESULT, help="file to write")
    return parser.parse_args()


def written(record: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Part:
    """One thing that is measured."""

    name: str
    """A section's name, and an entry's after a colon."""
    seconds: float
    """That it is thought to take."""
    measure: Callable[["Bench"], dict[str, Any]]


def parts(arguments: argparse.Namespace) -> list[Part]:
    """Return all that is asked for, what matters most first."""
    every = list(trainings(arguments))
    beside = [
        Part("plain_loop: bf16", SECONDS["plain_loop"], lambda b: b.plain_loop(bf16=True)),
        Part("plain_loop: tf32", SECONDS["plain_loop"], lambda b: b.plain_loop(bf16=False)),
    ]
    last = [
        Part("ledm", SECONDS["ledm"], Bench.ledm),
        Part("sampling", SECONDS["sampling"], Bench.sampling),
        Part("evaluation: adm", SECONDS["evaluation"], Bench.evaluation),
    ]
    # Down to the first that is compiled, five minutes; then what has been measured before, and the rest.
    return [*every[:2], *beside, *every[2:11], *last, *every[11:]]


def timetable(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what would be measured when, in seconds from the start, and what there is no time for."""
    now, rows, left = 0.0, {}, []
    for part in parts(arguments):
        if now + part.seconds > 60 * arguments.minutes:
            left.append(part.name)
            continue
        rows[part.name] = now
        now += part.seconds
    return {"begins_at": rows, "over_at": now, "left_out": left}


def everything(
    bench: "Bench", arguments: argparse.Namespace, end: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each part that there is time for, with its figures."""
    for part in parts(arguments):
        if time.monotonic() + part.seconds > end:
            bench.left_out.append(part.name)
            continue
        try:
            yield part.name, part.measure(bench)
        except (RuntimeError, CannotCompileError, torch.OutOfMemoryError) as error:
            yield part.name, {"error": f"{type(error).__name__}: {error}"[:300]}
        gc.collect()
        torch.compiler.reset()
        if bench.size.device == "cuda":
            torch.cuda.empty_cache()


def trainings(arguments: argparse.Namespace) -> Iterator[Part]:
    """Yield the ADM's hybrid pretraining in every variant asked for, then the other trainings."""
    asked = [v for v in arguments.variants.split(";") if v] or list(VARIANTS)
    only = (
        arguments.trainings.split(",") if arguments.trainings else ["/".join(t) for t in TRAININGS]
    )
    pairs = [(v, t) for v in asked for t in TIMED_IN.get(v, TRAININGS[:1]) if "/".join(t) in only]
    for variant, (family, task) in sorted(pairs, key=lambda pair: _is_beside(*pair)):
        compute = ComputeConfig(**VARIANTS[variant])
        seconds = SECONDS["finetune" if task == "finetune" or family != "adm" else "adm"]
        seconds += COMPILING.get(family, 0) if compute.compile else 0

        def measure(
            bench: Bench, family: str = family, task: str = task, name: str = variant
        ) -> dict[str, Any]:
            profile = name in PROFILED and (family, task) == TRAININGS[0]
            spec = bench.spec(family, task, ComputeConfig(**VARIANTS[name]))
            return bench.trained(spec, profile=name if profile else None)

        yield Part(f"trainings: {family}/{task}/{variant}", seconds, measure)


def _is_beside(variant: str, training: tuple[str, str]) -> bool:
    """Return whether a training is another than those that a variant is for."""
    return training not in TIMED_IN.get(variant, ())[:2] and training != TRAININGS[0]


class Bench:
    """Datasets of the right size, and what is measured on them."""

    def __init__(self, size: Size, home: Path, updates: int) -> None:
        self.size, self._home, self._updates = size, home, updates
        self.profiles: dict[str, dict[str, Any]] = {}
        self.left_out: list[str] = []
        self._data = {
            stage: prepare(all_datasets()[name], None, home, image_size=size.side, images=images)
            for stage, name, images in (
                ("pretraining", "isic2018-like", size.source_images),
                ("fine-tuning", "ph2-like", size.target_images),
            )
        }

    def spec(self, family: str, task: str, compute: ComputeConfig) -> RunSpec:
        """Return the paper's run of a kind, on generated images, nothing held out."""
        stage = "fine-tuning" if task in ("finetune", "ledm") else "pretraining"
        training: Any = {"finetune": self.size.fine_tuning, "ledm": self.size.ledm}.get(task)
        if training is None:
            micro = self.size.micro_batch if family == "adm" else None
            training = PretrainingConfig(batch=self.size.batch, micro_batch=micro, hold_out=0.0)
        start = PretrainedRef(key="0" * 16, task="hybrid", classes=2) if task == "ledm" else None
        return RunSpec(
            stage=stage,
            task=task,
            network=self.size.networks[family],
            dataset=self._data[stage].ref(self.size.side),
            seed=0,
            training=training,
            compute=compute,
            pretrained=start,
        )

    def trained(self, spec: RunSpec, *, profile: str | None) -> dict[str, Any]:
        """Return what an update takes, or an epoch of a fine-tuning, and the peak of memory."""
        begin_peak(self.size.device)
        began = time.monotonic()
        run: Any = load(spec.task)(spec, self._places(spec))
        filled(run.network)
        # A graph is recorded at the second pass of a size, and a fine-tuning has two sizes.
        warm_up = 6 if spec.compute.compile == "reduce-overhead" else 2
        for _ in range(warm_up):
            run.advance()
        self._synchronise()
        start = time.monotonic() - began
        if isinstance(spec.training, FineTuningConfig):
            figures = self._epochs(run, spec.training)
        else:
            figures = self._full_updates(run)
        if profile is not None:
            self._profile(profile, run.advance)
        return {
            **figures,
            "seconds_to_warm": round(start, 1),  # Compiling included.
            "warm_up_updates": warm_up,
            "peak_gb": round(peak_gb(self.size.device) or 0.0, 2),
            "forecast_gb": round(memory_gb(spec), 2),
        }

    def _full_updates(self, run: Run) -> dict[str, Any]:
        images = {len(run._batch(update)[0]) for update in range(3)}  # type: ignore[attr-defined]
        assert images == {self.size.batch}, f"updates of {images} images are timed together"
        times = [self._timed(run.advance) for _ in range(self._updates)]
        return self._per_update(times, run.spec.network)

    def _per_update(self, times: list[float], network: NetworkConfig) -> dict[str, Any]:
        gflop = self.size.batch * training_gflop(network, self.size.side)
        return {
            "images_per_update": self.size.batch,
            "seconds_per_full_update": round(median(times), 4),
            **spread(times),
            "images_per_s": round(self.size.batch / median(times), 1),
            "tflop_per_s": round(gflop / median(times) / 1000, 1),
        }

    def _epochs(self, run: Run, training: FineTuningConfig) -> dict[str, Any]:
        """Return what an epoch takes: its updates, and an evaluation of the validation part."""
        updates = math.ceil(training.train_images / training.batch)

        def epoch() -> None:
            for _ in range(updates):
                run.advance()

        times = [self._timed(epoch) for _ in range(self._updates)]
        network, side = run.spec.network, self.size.side
        gflop = training.train_images * training_gflop(network, side)
        gflop += (
            (self.size.target_images - training.train_images) // 2 * forward_gflop(network, side)
        )
        return {
            "updates_per_epoch": updates,
            "seconds_per_epoch": round(median(times), 4),
            **spread(times),
            "tflop_per_s": round(gflop / median(times) / 1000, 1),
        }

    def plain_loop(self, *, bf16: bool) -> dict[str, Any]:
        """Return what an update takes in a plain loop over diffusers' ADM: the peer."""
        set_numerics(ComputeConfig(deterministic=False))
        size, device = self.size, self.size.device
        config = size.networks["adm"]
        assert isinstance(config, AdmConfig)
        network = filled(DiffusersAdm(config, OUTPUTS)).to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
        images = torch.randn(size.batch, 3, size.side, size.side, device=device)

        def update() -> None:
            optimizer.zero_grad(set_to_none=True)
            t = torch.randint(0, 1000, (size.batch,), device=device)
            for part, t_B in zip(
                images.split(size.micro_batch), t.split(size.micro_batch), strict=True
            ):
                with torch.autocast(device, torch.bfloat16, enabled=bf16):
                    answer = network(part + torch.randn_like(part), t_B)
                loss = diffusion_loss(part, answer[:, :3].float(), torch.ones_like(t_B).float())
                (loss.sum() / size.batch).backward()
            optimizer.step()

        begin_peak(device)
        for _ in range(2):
            update()
        self._synchronise()
        times = [self._timed(update) for _ in range(self._updates)]
        peak = {"peak_gb": round(peak_gb(device) or 0.0, 2)}
        return {**self._per_update(times, config), **peak}

    def evaluation(self) -> dict[str, Any]:
        """Return what a forward pass of 16 images takes in the precision that evaluation has."""
        set_numerics(ComputeConfig())
        network = filled(build(self.size.networks["adm"], 2)).to(self.size.device)
        predict = segment_with(network, timestep=0, device=self.size.device)
        images = torch.zeros(16, 3, self.size.side, self.size.side)
        predict(images)
        times = [self._timed(lambda: predict(images)) for _ in range(self._updates)]
        gflop = 16 * forward_gflop(self.size.networks["adm"], self.size.side)
        return {
            "images": 16,
            "seconds": round(median(times), 4),
            **spread(times),
            "tflop_per_s": round(gflop / median(times) / 1000, 1),
        }

    def ledm(self) -> dict[str, Any]:
        """Return what LEDM's features and its iterations take, in TF32."""
        spec = self.spec("adm", "ledm", ComputeConfig())
        places = self._places(spec)
        write_weights(spec, places)
        begin_peak(self.size.device)
        began = time.monotonic()
        run: Run = load("ledm")(spec, places)
        self._synchronise()
        ready = time.monotonic()
        for _ in range(self.size.ledm_iterations):
            run.advance()
        self._synchronise()
        seconds = time.monotonic() - ready
        return {
            "seconds_features_of_20_images": round(ready - began, 2),
            "ms_per_iteration": round(1000 * seconds / self.size.ledm_iterations, 3),
            "peak_gb": round(peak_gb(self.size.device) or 0.0, 2),
            "forecast_gb": memory_gb(spec),
        }

    def sampling(self) -> dict[str, Any]:
        """Return what a step of DPM-Solver takes for the 8 samples of a hybrid pretraining."""
        network = filled(build(self.size.networks["adm"], OUTPUTS)).to(self.size.device)
        side, device = self.size.side, self.size.device

        def sample(steps: int) -> None:
            sample_joint(
                network, outputs=OUTPUTS, size=side, count=8, steps=steps, seed=0, device=device
            )

        few, many = (self._timed(lambda n=n: sample(n)) for n in (3, 20))
        return {"seconds_per_step_of_8": round((many - few) / 17, 4)}

    def _profile(self, name: str, update: Callable[[], None]) -> None:
        self.profiles[name] = profiled(update, on_gpu=self.size.device == "cuda")

    def _timed(self, work: Callable[[], object]) -> float:
        began = time.monotonic()
        work()
        self._synchronise()
        return time.monotonic() - began

    def _synchronise(self) -> None:
        if self.size.device == "cuda":
            torch.cuda.synchronize()

    def _places(self, spec: RunSpec) -> Places:
        prepared = self._data[spec.stage]
        return Places(
            dataset=self._home / "datasets" / f"{prepared.name}-{prepared.stored_side}",
            checkpoints=self._home / "run",
            artifacts=self._home / "run",
            pretrained=self._home / "pretrained",
            device=self.size.device,
        )


def spread(times: list[float]) -> dict[str, float]:
    """Return the tenth and ninetieth percentile, and the slowest."""
    tenths = quantiles(times, n=10, method="inclusive") if len(times) > 1 else times * 9
    figures = {"p10": tenths[0], "p90": tenths[-1], "slowest": max(times)}
    return {name: round(value, 4) for name, value in figures.items()}


if __name__ == "__main__":
    main()
