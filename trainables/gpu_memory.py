"""How much memory of a GPU a run took at its peak, as PyTorch's allocator counts it."""

import torch


def begin_peak(device: str) -> None:
    """Count the peak from here on; what an earlier run of this process left cached is given back."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: str) -> float | None:
    """Return the most that tensors took at once since `begin_peak`, in GB (10^9 bytes); None without a GPU."""
    if not device.startswith("cuda"):
        return None
    return float(torch.cuda.max_memory_allocated(device)) / 1e9
