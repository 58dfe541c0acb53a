"""What one update does on its device: its longest kernels, launches, and the bytes its operations touch."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

LONGEST = 20


def profiled(update: Callable[[], None], *, on_gpu: bool) -> dict[str, Any]:
    """Return figures of one call of `update`, which is called twice.

    `gb` counts what each operation reads and writes once, views left out: what a GPU has to move where
    nothing is fused and nothing stays in its cache. A compiled network hides its operations from it.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as found:
        update()
        if on_gpu:
            torch.cuda.synchronize()
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    averages = [each for each in found.key_averages() if each.device_type == kind]
    with Traffic() as traffic:
        update()
    return {
        "longest": _longest(averages, on_gpu=on_gpu),
        "launches": sum(each.count for each in averages),
        "ms": round(sum(_us(each, on_gpu=on_gpu) for each in averages) / 1000, 2),
        "gb": round(sum(traffic.bytes.values()) / 1e9, 3),
        "gb_by_operation": {
            name: round(size / 1e9, 3) for name, size in traffic.bytes.most_common(LONGEST)
        },
    }


def _longest(averages: list[Any], *, on_gpu: bool) -> list[dict[str, Any]]:
    ranked = sorted(averages, key=lambda each: -_us(each, on_gpu=on_gpu))[:LONGEST]
    return [
        {
            "kernel": each.key[:120],
            "launches": each.count,
            "ms": round(_us(each, on_gpu=on_gpu) / 1000, 3),
        }
        for each in ranked
    ]


def _us(average: Any, *, on_gpu: bool) -> float:
    microseconds: float = average.self_device_time_total if on_gpu else average.self_cpu_time_total
    return microseconds


class Traffic(TorchDispatchMode):
    """Counts the bytes of the tensors that go into and come out of each operation, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not _is_view(func):
            tensors = [t for t in tree_leaves((args, kwargs, result)) if torch.is_tensor(t)]
            self.bytes[str(func)] += sum(t.numel() * t.element_size() for t in tensors)
        return result


def _is_view(func: Any) -> bool:
    """Return whether an operation only looks at memory in another way."""
    returned = [each.alias_info for each in func._schema.returns]
    return any(each is not None and not each.is_write for each in returned)
