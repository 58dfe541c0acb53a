"""Random numbers that a resume, a worker or a batch size cannot move.

Every draw that can be is derived from names (`derive_seed`). What layers draw themselves, dropout
above all, comes from the global streams, which are seeded once per run and travel in its
checkpoints.
"""

import random
from typing import Any, cast

import numpy as np
import torch

from trainables.config import ComputeConfig
from trainables.keys import derive_seed


def generator(seed: int, *path: str | int, device: str = "cpu") -> torch.Generator:
    """Return a generator for one named draw."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *path))


def seed_everything(seed: int) -> None:
    """Seed the global streams of Python, NumPy and torch (CPU and every GPU)."""
    random.seed(derive_seed(seed, "python"))
    np.random.seed(derive_seed(seed, "numpy"))
    torch.manual_seed(derive_seed(seed, "torch"))


def rng_state(device: str = "cpu") -> dict[str, Any]:
    """Return the global streams as tensors, numbers and lists, which load without pickle.

    Args:
        device: a GPU has a stream of its own besides.
    """
    state = cast("tuple[str, Any, int, int, float]", np.random.get_state(legacy=True))
    name, keys, position, has_gauss, cached = state
    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), torch.from_numpy(keys.copy()), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.startswith("cuda") else None,
    }


def set_rng_state(state: dict[str, Any], device: str = "cpu") -> None:
    """Put the global streams back where `rng_state` saw them."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy(), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    # A run may go on on another kind of device, whose stream then starts anew.
    if device.startswith("cuda") and isinstance(state["cuda"], torch.Tensor):
        torch.cuda.set_rng_state(state["cuda"], device)


def set_numerics(compute: ComputeConfig) -> None:
    """Fix what decides the rounding of a run: threads, TF32, deterministic kernels."""
    torch.set_num_threads(compute.threads)
    tf32 = compute.precision != "fp32"
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = compute.tf32_matmul
    torch.backends.cudnn.benchmark = False
    # Never warn_only: attention then keeps a backward pass on CUDA that adds up in any order.
    torch.use_deterministic_algorithms(compute.deterministic)
    # A debugging aid that costs time: no result here depends on memory nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
