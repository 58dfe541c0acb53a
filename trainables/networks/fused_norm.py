"""Group normalisation, scale and shift, SiLU and dropout as one operation, or as four.

Between two convolutions of the ADM these four read and write the same map seven times forward, and
again backward; `norm_kernels` does it in three. Where Triton or a GPU is missing the same formula is
computed by PyTorch, in other bits.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def runs_fused(map_BCHW: Tensor) -> bool:
    """Return whether the kernel is what computes this map: on a GPU, or where Triton interprets."""
    return _has_triton() and (map_BCHW.is_cuda or _interpreted())


def load_kernel() -> None:
    """Import the kernel where it may run, before the first update that it computes."""
    if _has_triton() and (torch.cuda.is_available() or _interpreted()):
        import_module("trainables.networks.norm_function")


def norm_silu(
    map_BCHW: Tensor,
    norm: nn.GroupNorm,
    *,
    scale_shift: tuple[Tensor, Tensor] | None = None,
    dropout: float = 0.0,
    fused: bool = False,
) -> Tensor:
    """Return silu(norm(map) * (1 + scale) + shift) after dropout.

    Args:
        scale_shift: each (B, C).
        dropout: probability.
        fused: whether the kernel may compute it. What it drops follows from a number that the CPU's
            stream gives, which travels in checkpoints.
    """
    if fused and runs_fused(map_BCHW) and map_BCHW.numel():
        return _fused(map_BCHW, norm, scale_shift, dropout)
    hidden = norm(map_BCHW)
    if scale_shift is not None:
        scale, shift = (each[:, :, None, None] for each in scale_shift)
        hidden = hidden * (1 + scale) + shift
    return F.dropout(F.silu(hidden), dropout, training=dropout > 0)


def _fused(
    map_BCHW: Tensor,
    norm: nn.GroupNorm,
    scale_shift: tuple[Tensor, Tensor] | None,
    dropout: float,
) -> Tensor:
    from trainables.networks.norm_function import FusedNorm, Settings

    kind = map_BCHW.device.type
    # What follows is a convolution, which autocast would round the map for.
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else map_BCHW.dtype
    seed = int(torch.randint(2**31 - 1, ())) if dropout else 0
    scale, shift = (None, None) if scale_shift is None else map(Tensor.contiguous, scale_shift)
    settings = Settings(norm.num_groups, norm.eps, dropout, seed, dtype)
    answer: Tensor = FusedNorm.apply(map_BCHW, norm.weight, norm.bias, scale, shift, settings)
    return answer
