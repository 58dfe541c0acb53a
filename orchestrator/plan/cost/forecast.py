"""What a plan will take: seconds per run, GPU-hours, the longest path, GPU memory.

Seconds are arithmetic over a sustained rate, which is a guess of ours until runs of the same kind
have finished on the same device: from then on the guess is multiplied by the median of
measured / predicted. Nothing is imported or probed; the caller says which device it is.

Units: seconds unless a name says hours; GFLOP is 10^9, TFLOP 10^12, a multiply-add counts 2.
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import NamedTuple

from orchestrator.plan.cost.arithmetic import forward_gflop, gpu_memory_gb, training_gflop
from orchestrator.plan.plan import Plan, PlannedRun
from trainables.config import (
    FineTuningConfig,
    LedmConfig,
    PretrainingConfig,
    RunSpec,
)

SECONDS_PER_HOUR = 3600.0
DIFFUSION_TASKS = ("diffusion", "hybrid")  # Those that sample pictures when they are trained.

# Epochs of a fine-tuning in units of its patience, 60 at the paper's 20; many classes take longer.
EPOCHS_PER_PATIENCE = 3.0
MANY_CLASSES_FACTOR = 2.5
LEDM_TAIL_ITERATIONS = 35  # Median beyond the patience before the stopping rule fires.

LEDM_GB = 3.0  # Features of 20 images at 256 px, and the pixel classifier.
CONTEXT_GB = 0.5  # Of CUDA and its libraries, which PyTorch's allocator does not count.
NOTHING: Mapping[str, float] = {}
GPU_HEADROOM = 1.15  # Allocator and libraries, beyond what the arithmetic counts.
MOST_RUNS_PER_GPU = 8


@dataclass(frozen=True)
class Device:
    """How fast a kind of device is on our kinds of run; one run at a time."""

    name: str
    tflop_per_s: Mapping[str, float]
    """Sustained on each family of networks, in fp32 (TF32 where there is)."""
    bf16_tflop_per_s: Mapping[str, float]
    seconds_per_update: float
    """Lost in each optimizer update or evaluated batch, however small the network."""
    seconds_per_epoch: float
    """Lost in each epoch of a fine-tuning."""
    seconds_per_ledm_iteration: float
    start_seconds: Mapping[str, float]
    """To load, compile and test."""
    gpu: bool = True


# Measured on 2026-11-26 by `benchmarks/gpu.py`, but for the start, which is assumed. The ADM's rates are
# corrected by arithmetic for the small batches among those timed (`benchmarks/results/gpu.json` says
# how), and stand until they are measured again. An H100 has the same arithmetic and 0.7 times the
# bandwidth of memory.
H200 = Device(
    name="NVIDIA H200",
    tflop_per_s={"adm": 83, "deeplab": 122, "segformer": 28},
    bf16_tflop_per_s={"adm": 107, "deeplab": 152, "segformer": 44},
    seconds_per_update=0.0,
    seconds_per_epoch=0.2,
    seconds_per_ledm_iteration=2.4e-3,
    start_seconds={"adm": 60, "deeplab": 40, "segformer": 40},
)

# One thread of a server CPU: a 32-channel ADM took 0.20 s for a batch of 8 at 32 px on two.
CPU = Device(
    name="cpu",
    tflop_per_s={"adm": 0.045, "deeplab": 0.02, "segformer": 0.03},
    bf16_tflop_per_s={"adm": 0.02, "deeplab": 0.02, "segformer": 0.02},
    seconds_per_update=0.02,
    seconds_per_epoch=0.02,
    seconds_per_ledm_iteration=0.6e-3,
    start_seconds={"adm": 0.2, "deeplab": 0.2, "segformer": 0.2},
    gpu=False,
)


class Kind(NamedTuple):
    """Runs that take as long as each other, up to what the arithmetic knows."""

    stage: str
    family: str
    ledm: bool
    image_size: int

    @classmethod
    def of(cls, spec: RunSpec) -> "Kind":
        """Return the kind of a run."""
        size = spec.dataset.image_size
        ledm = isinstance(spec.training, LedmConfig)
        return cls(spec.stage, spec.network.family, ledm, size)


@dataclass(frozen=True)
class Measured:
    """How long a run took that has finished."""

    spec: RunSpec
    device: str
    """Name of the device it ran on: `Device.name`."""
    seconds: float
    gpu_gb: float | None = None
    """Its peak of GPU memory in GB (10^9 bytes); None if that says nothing of its like."""


@dataclass(frozen=True)
class Resources:
    """What a run occupies while it runs."""

    cpus: int
    gpus: float


@dataclass(frozen=True)
class Forecast:
    """What the runs of a plan that are not finished will take, by key."""

    device: Device
    plan: Plan
    seconds: Mapping[str, float]
    """Of each run that is still to do."""
    learned: frozenset[Kind]
    """Kinds whose forecast rests on measurements."""

    @cached_property
    def remaining(self) -> Mapping[str, float]:
        """Seconds from the start of each run to the end of the longest path that begins with it."""
        return longest_paths(self.plan.runs, self.seconds)

    @property
    def longest_path(self) -> float:
        """Seconds that no number of devices can undercut."""
        return max(self.remaining.values(), default=0.0)

    def hours(self, stage: str | None = None) -> float:
        """Return device-hours, of one stage or of all."""
        chosen = [
            self.seconds.get(run.key, 0.0)
            for run in self.plan.runs
            if stage in (None, run.spec.stage)
        ]
        return sum(chosen) / SECONDS_PER_HOUR

    def wall_seconds(self, slots: int) -> float:
        """Return how long it takes if `slots` runs can run at once, longest path first.

        Raises:
            ValueError: if `slots` is not positive.
        """
        if slots < 1:
            raise ValueError(f"slots must be > 0, got {slots}")
        todo = [run for run in self.plan.runs if run.key in self.seconds]
        return _schedule(todo, self.seconds, self.remaining, slots)


def forecast(
    plan: Plan,
    *,
    device: Device = H200,
    measured: Iterable[Measured] = (),
    finished: Iterable[str] = (),
) -> Forecast:
    """Return what the runs of a plan will take on a device.

    Args:
        device: what every run is assumed to run on.
        measured: finished runs to learn from; those of other devices are ignored.
        finished: keys that take no time any more.
    """
    images = {each.ref.name: each.images for each in plan.datasets}
    ratios: dict[Kind, list[float]] = defaultdict(list)
    for each in measured:
        if each.device == device.name and each.spec.dataset.name in images:
            expected = run_seconds(each.spec, images[each.spec.dataset.name], device)
            ratios[Kind.of(each.spec)].append(each.seconds / expected)
    factor = {kind: median(values) for kind, values in ratios.items()}
    done = set(finished)
    return Forecast(
        device=device,
        plan=plan,
        seconds={
            run.key: run_seconds(run.spec, images[run.spec.dataset.name], device)
            * factor.get(Kind.of(run.spec), 1.0)
            for run in plan.runs
            if run.key not in done
        },
        learned=frozenset(factor),
    )


def gpu_of(measured: Iterable[Measured]) -> Device:
    """Return the kind of GPU that most of these runs were on, with the rates of `H200` to begin with.

    Of kinds as frequent as each other, the first by name; `H200` itself if none ran on a GPU.
    """
    names = Counter(each.device for each in measured if each.device != CPU.name)
    if not names:
        return H200
    return replace(H200, name=min(names, key=lambda name: (-names[name], name)))


def longest_paths(runs: Sequence[PlannedRun], seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds from the start of each run to the end of the longest path from it.

    Args:
        runs: each after the one it needs.
        seconds: of each run; one that is left out takes none.
    """
    after: dict[str, float] = defaultdict(float)
    path: dict[str, float] = {}
    for run in reversed(runs):
        path[run.key] = seconds.get(run.key, 0.0) + after[run.key]
        if run.needs is not None:
            after[run.needs] = max(after[run.needs], path[run.key])
    return path


def run_seconds(spec: RunSpec, images: int, device: Device) -> float:
    """Return the expected duration of one run, from its arithmetic alone.

    Args:
        images: how many its dataset has.
    """
    if isinstance(spec.training, PretrainingConfig):
        return _pretraining_seconds(spec, spec.training, images, device)
    if isinstance(spec.training, LedmConfig):
        return _ledm_seconds(spec, spec.training, images, device)
    return _fine_tuning_seconds(spec, spec.training, images, device)


def peaks(measured: Iterable[Measured]) -> dict[str, float]:
    """Return the highest peak of GPU memory of runs that are alike in what decides it, in GB."""
    found: dict[str, float] = {}
    for each in measured:
        if each.gpu_gb is not None:
            kind = _memory_kind(each.spec)
            found[kind] = max(each.gpu_gb, found.get(kind, 0.0))
    return found


def _memory_kind(spec: RunSpec) -> str:
    """Return what runs have in common that take the same memory; seeds and datasets do not matter."""
    training = spec.training
    at_once = "" if isinstance(training, LedmConfig) else training.micro_batch or training.batch
    parts = (spec.task, spec.network.model_dump_json(), spec.dataset.image_size, at_once)
    return "/".join(map(str, (*parts, spec.dataset.classes, spec.compute.precision)))


def resources(
    spec: RunSpec, *, gpu_gb: float | None, measured: Mapping[str, float] = NOTHING
) -> Resources:
    """Return what to reserve for a run.

    Args:
        gpu_gb: memory of one GPU in GB; None if there is none. A pretraining keeps a GPU busy and
            gets a whole one; a fine-tuning that fits several times gets a fraction.
        measured: `peaks` of earlier runs, which go before the model of memory.
    """
    cpus = spec.compute.threads
    if gpu_gb is None:
        return Resources(cpus, 0.0)
    if spec.stage == "pretraining":
        return Resources(cpus, 1.0)
    peak = measured.get(_memory_kind(spec))
    needed = memory_gb(spec) if peak is None else peak + CONTEXT_GB
    fits = math.floor(gpu_gb / (needed * GPU_HEADROOM))
    return Resources(cpus, 1.0 / min(max(fits, 1), MOST_RUNS_PER_GPU))


def memory_gb(spec: RunSpec) -> float:
    """Return the GPU memory that a run takes, in GB (10^9 bytes)."""
    size = spec.dataset.image_size
    if isinstance(spec.training, LedmConfig):
        return LEDM_GB
    at_once = spec.training.micro_batch or spec.training.batch
    return gpu_memory_gb(spec.network, size, at_once)


def _pretraining_seconds(
    spec: RunSpec, training: PretrainingConfig, images: int, device: Device
) -> float:
    size = spec.dataset.image_size
    trained = training.updates * training.batch * training_gflop(spec.network, size)
    forwards = 0.0
    if spec.task == "supervised":
        evaluations = math.ceil(training.updates / training.evaluate_every)
        forwards = evaluations * images * training.hold_out
    if spec.task in DIFFUSION_TASKS:
        forwards = training.sampling.images * training.sampling.steps
    seconds = trained / _gflop_per_s(device, spec)
    seconds += forwards * forward_gflop(spec.network, size) / _forward_gflop_per_s(device, spec)
    overhead = training.updates * device.seconds_per_update
    return seconds + overhead + device.start_seconds[spec.network.family]


def _fine_tuning_seconds(
    spec: RunSpec, training: FineTuningConfig, images: int, device: Device
) -> float:
    size = spec.dataset.image_size
    train, validation = training.train_images, (images - training.train_images) // 2
    epoch = train * training_gflop(spec.network, size) / _gflop_per_s(device, spec)
    forwards = validation * forward_gflop(spec.network, size)
    epoch += forwards / _forward_gflop_per_s(device, spec) + device.seconds_per_epoch
    epoch += math.ceil(train / training.batch) * device.seconds_per_update
    return _epochs(spec, training) * epoch + device.start_seconds[spec.network.family]


def _epochs(spec: RunSpec, training: FineTuningConfig) -> float:
    many = MANY_CLASSES_FACTOR if spec.dataset.metric == "miou_ledm" else 1.0
    expected = max(training.patience + 1, EPOCHS_PER_PATIENCE * training.patience * many)
    return min(expected, training.max_epochs)


def _ledm_seconds(spec: RunSpec, training: LedmConfig, images: int, device: Device) -> float:
    size = spec.dataset.image_size
    per_epoch = training.train_images * size**2 // training.batch_pixels
    watched = training.patience_iterations + LEDM_TAIL_ITERATIONS
    iterations = min(
        training.first_stopping_epoch * per_epoch + watched,
        training.max_epochs * per_epoch,
        training.max_iterations or math.inf,
    )
    gflop = len(training.steps) * images * forward_gflop(spec.network, size)
    return (
        iterations * device.seconds_per_ledm_iteration
        + gflop / (device.tflop_per_s[spec.network.family] * 1000)
        + device.start_seconds[spec.network.family]
    )


def _gflop_per_s(device: Device, spec: RunSpec) -> float:
    bf16 = spec.compute.precision == "bf16"
    rates = device.bf16_tflop_per_s if bf16 else device.tflop_per_s
    return rates[spec.network.family] * 1000


def _forward_gflop_per_s(device: Device, spec: RunSpec) -> float:
    """Return the rate of what is not trained on: in single precision, unless asked for otherwise."""
    if spec.compute.bf16_evaluation and spec.task not in DIFFUSION_TASKS:
        return _gflop_per_s(device, spec)
    return device.tflop_per_s[spec.network.family] * 1000


def _schedule(
    todo: Iterable[PlannedRun],
    seconds: Mapping[str, float],
    remaining: Mapping[str, float],
    slots: int,
) -> float:
    """Return the end of a list schedule: a free slot takes the ready run with the longest path."""
    runs = list(todo)
    planned = {run.key for run in runs}
    unlocks: dict[str, list[str]] = defaultdict(list)
    ready: list[tuple[float, str]] = []
    for run in runs:
        if run.needs in planned:
            unlocks[str(run.needs)].append(run.key)
        else:
            ready.append((-remaining[run.key], run.key))
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < slots:
            key = heapq.heappop(ready)[1]
            heapq.heappush(running, (now + seconds[key], key))
        now, ended = heapq.heappop(running)
        for key in unlocks[ended]:
            heapq.heappush(ready, (-remaining[key], key))
    return now
