"""What a machine has: GPUs by name and memory, CPU cores. No torch: asking costs nothing."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

MIB_PER_GB = 1e9 / 2**20


@dataclass(frozen=True)
class Gpu:
    """One GPU of this machine."""

    name: str
    memory_gb: float
    """In GB (10^9 bytes)."""


@dataclass(frozen=True)
class Devices:
    """What runs are put on: GPUs, or CPU slots where there are none."""

    count: int
    gpu_gb: float | None
    """Memory of the smallest GPU in GB (10^9 bytes); None without GPUs."""
    peaks: Mapping[str, float] = field(default_factory=dict)
    """What runs took of a GPU, in GB, as `forecast.peaks` found it."""


def local_devices(workers: int | None = None) -> Devices:
    """Return those of this machine; `workers` CPU slots, one per core by default."""
    found = gpus()
    if found:
        return Devices(len(found), min(gpu.memory_gb for gpu in found))
    return Devices(workers or cpu_cores(), None)


def gpus() -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs of this machine, as its driver lists them; empty without a driver."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            query, capture_output=True, encoding="utf-8", errors="replace", timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [line.rpartition(",") for line in done.stdout.splitlines() if line.strip()]
    return tuple(Gpu(name.strip(), float(memory) / MIB_PER_GB) for name, _, memory in rows)


def cpu_cores() -> int:
    """Return the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))
