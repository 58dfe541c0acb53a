"""The kernels of `norm_kernels` as one operation with a gradient.

Import it when it is needed: Triton decides on import whether it interprets.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainables.networks import norm_kernels as kernels

TILE = 4096  # Values that a program holds at a time.
PROGRAMS = 64  # Of one image, at most.


class Settings(NamedTuple):
    """What a normalisation is told besides its tensors."""

    groups: int
    eps: float
    drop: float
    seed: int
    dtype: torch.dtype
    """Of the answer."""


class Sizes:
    """How a map is cut into programs and tiles."""

    def __init__(self, x: Tensor, groups: int, *, shifted: bool, drop: float) -> None:
        self.images, channels, height, width = x.shape
        self.groups, self.pixels = groups, height * width
        wide = triton.next_power_of_2(channels)
        tile = max(TILE // wide, 1)
        each = triton.cdiv(triton.cdiv(self.pixels, PROGRAMS), tile) * tile
        self.programs: int = triton.cdiv(self.pixels, each)
        self.sums = torch.float64 if x.dtype == torch.float64 else torch.float32
        in_group = channels // groups
        acc = tl.float64 if self.sums == torch.float64 else tl.float32
        self.tiled: dict[str, Any] = {
            "C": channels,
            "BC": wide,
            "PP": each,
            "TP": tile,
            "ACC": acc,
        }
        self.by_channel = {**self.tiled, "CG": in_group, "SHIFTED": shifted, "DROP": drop}
        self.by_group: dict[str, Any] = {
            "C": channels,
            "B": self.programs,
            "CG": in_group,
            "BB": triton.next_power_of_2(self.programs),
            "BCG": triton.next_power_of_2(in_group),
            "ACC": acc,
        }

    @property
    def grid(self) -> tuple[int, int]:
        return self.images, self.programs

    def empty(self, x: Tensor, *shape: int) -> Tensor:
        """Return room for sums."""
        return torch.empty(shape, dtype=self.sums, device=x.device)


class FusedNorm(torch.autograd.Function):
    """silu(group_norm(x) * (1 + scale) + shift), dropped with a probability; x in channels-last."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd hands over by position
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        settings: Settings,
    ) -> Tensor:
        groups, eps, drop, seed, dtype = settings
        x = x.contiguous(memory_format=torch.channels_last)
        sizes = Sizes(x, groups, shifted=scale is not None, drop=drop)
        channels = x.shape[1]
        means, squares = (sizes.empty(x, *sizes.grid, channels) for _ in range(2))
        kernels.moments[sizes.grid](x, means, squares, sizes.pixels, **sizes.tiled)
        mean, rstd = (sizes.empty(x, sizes.images, groups) for _ in range(2))
        kernels.statistics[(sizes.images, groups)](
            means, squares, mean, rstd, eps, sizes.pixels, PP=sizes.tiled["PP"], **sizes.by_group
        )
        given = (
            weight,
            bias,
            scale if scale is not None else weight,
            shift if shift is not None else bias,
        )
        y = torch.empty_like(x, dtype=dtype, memory_format=torch.channels_last)
        kernels.forward[sizes.grid](
            x, y, *given, mean, rstd, seed, sizes.pixels, **sizes.by_channel
        )
        ctx.save_for_backward(x, *given, mean, rstd)
        ctx.sizes, ctx.seed, ctx.shifted = sizes, seed, scale is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, scale, shift, mean, rstd = ctx.saved_tensors
        sizes, given = ctx.sizes, (weight, bias, scale, shift, mean, rstd)
        dy = dy.contiguous(memory_format=torch.channels_last)
        channels = x.shape[1]
        parts = [sizes.empty(x, *sizes.grid, channels) for _ in range(2)]
        kernels.sums[sizes.grid](x, dy, *parts, *given, ctx.seed, sizes.pixels, **sizes.by_channel)
        plain, times_hat = (sizes.empty(x, sizes.images, channels) for _ in range(2))
        first, second = (sizes.empty(x, sizes.images, sizes.groups) for _ in range(2))
        kernels.totals[(sizes.images, sizes.groups)](
            *parts,
            weight,
            scale,
            plain,
            times_hat,
            first,
            second,
            sizes.pixels,
            SHIFTED=ctx.shifted,
            **sizes.by_group,
        )
        dx = torch.empty_like(x, memory_format=torch.channels_last)
        kernels.backward[sizes.grid](
            x, dy, dx, *given, first, second, ctx.seed, sizes.pixels, **sizes.by_channel
        )
        d_scale = d_shift = None
        if ctx.shifted:
            d_scale = (times_hat * weight + plain * bias).to(scale.dtype)
            d_shift = plain.to(shift.dtype)
            factor = 1 + scale.to(sizes.sums)
            times_hat, plain = times_hat * factor, plain * factor
        d_weight, d_bias = times_hat.sum(0).to(weight.dtype), plain.sum(0).to(bias.dtype)
        return dx, d_weight, d_bias, d_scale, d_shift, None
