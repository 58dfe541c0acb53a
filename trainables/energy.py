"""What a GPU has used, as its driver counts it; the board's, whoever shares it."""

from contextlib import suppress

import torch

MILLI = 1e-3


def gpu_joules(device: str) -> float | None:
    """Return the energy of a GPU since its driver was loaded, in joules; None if nobody tells.

    NVIDIA's drivers count it from the Volta generation on. Two readings bracket a training; on a GPU
    that several share, each sees what all of them use.
    """
    if not device.startswith("cuda"):
        return None
    with suppress(Exception):  # A driver without it is no reason not to train.
        import pynvml

        pynvml.nvmlInit()
        properties = torch.cuda.get_device_properties(device)
        # By identifier: CUDA's numbers are not the driver's where some GPUs are hidden.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}".encode())
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * MILLI
    return None
