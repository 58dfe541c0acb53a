"""Bilinear resizing whose gradient has the same bits every time, on a GPU too, and is not slow.

CUDA's own gradient of bilinear resizing adds up in any order. Where deterministic algorithms are
asked for, PyTorch falls back on an indexed one, which made a SegFormer's update four times as long
(`benchmarks/gpu.py`). Resizing is linear in rows and in columns, so the gradient is a product with
the transposes of two small matrices, and a matrix product adds up in a fixed order.

Shape suffixes: B batch, C channels, h w side before, H W side after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def resize_bilinear(images_BChw: Tensor, size: Sequence[int]) -> Tensor:
    """Return the images at another size, as `interpolate(mode="bilinear", align_corners=False)` does.

    The same values as PyTorch's, and the same gradient up to rounding.

    Args:
        images_BChw: of any floating dtype.
        size: H and W.
    """
    resized: Tensor = _Bilinear.apply(images_BChw, tuple(size))
    return resized


def deterministic_resizing(images: Tensor) -> AbstractContextManager[object]:
    """Return a context in which library code that resizes bilinearly calls `resize_bilinear`.

    Only where it matters: on a GPU, with deterministic algorithms, outside `torch.compile`.
    """
    matters = not images.is_cpu and torch.are_deterministic_algorithms_enabled()
    return _Resizing() if matters and not torch.compiler.is_compiling() else nullcontext()


class _Resizing(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.interpolate and len(args) == 1 and _is_bilinear(**kwargs):
            return resize_bilinear(args[0], kwargs["size"])
        return func(*args, **kwargs)


def _is_bilinear(
    *,
    mode: str = "nearest",
    size: object = None,
    align_corners: bool | None = None,
    **others: object,
) -> bool:
    return (
        mode == "bilinear" and size is not None and not align_corners and not any(others.values())
    )


class _Bilinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images_BChw: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.before = tuple(images_BChw.shape[-2:])
        # Not `interpolate`, which would take the indexed way forward as well.
        resized: Tensor = torch.ops.aten.upsample_bilinear2d.default(images_BChw, size, False)
        return resized

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient_BCHW,) = gradients
        height, width = gradient_BCHW.shape[-2:]
        exact = torch.promote_types(gradient_BCHW.dtype, torch.float32)
        rows_Hh = _weights(ctx.before[0], height, exact, gradient_BCHW.device)
        columns_Ww = _weights(ctx.before[1], width, exact, gradient_BCHW.device)
        with torch.autocast(gradient_BCHW.device.type, enabled=False):
            gradient_BChw = rows_Hh.T @ (gradient_BCHW.to(exact) @ columns_Ww)
        return gradient_BChw.to(gradient_BCHW.dtype), None


@lru_cache(maxsize=64)
def _weights(before: int, after: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix that resizes a line: what becomes of each of its unit vectors."""
    with torch.inference_mode(mode=False), torch.no_grad():
        units = torch.eye(before, dtype=torch.float64)[None]
        resized = F.interpolate(units, size=after, mode="linear", align_corners=False)
        return resized[0].T.contiguous().to(dtype).to(device)
