"""The three network families of the table, built from their configuration.

Each family lives in its own module, imported when it is asked for: importing their libraries takes
seconds, and what only needs the base class or a number of outputs should not wait for them.
"""

from __future__ import annotations

from trainables.config import AdmConfig, DeepLabConfig, NetworkConfig
from trainables.networks.base import SegmentationNetwork

__all__ = ["SegmentationNetwork", "build"]


def build(config: NetworkConfig, outputs: int) -> SegmentationNetwork:
    """Return a freshly initialised network; weights are drawn from PyTorch's global generator."""
    if isinstance(config, AdmConfig):
        from trainables.networks.adm import AdmUNet

        return AdmUNet(config, outputs)
    if isinstance(config, DeepLabConfig):
        from trainables.networks.deeplab import DeepLab

        return DeepLab(config, outputs)
    from trainables.networks.segformer import SegFormer

    return SegFormer(config, outputs)
