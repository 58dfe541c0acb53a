"""The three network families of the table, built from their configuration.

Each family lives in its own module, imported when it is asked for: importing their libraries takes
seconds, and what only needs the base class or a number of outputs should not wait for them.
"""

from __future__ import annotations

from trainables.config import AdmConfig, DeepLabConfig, NetworkConfig
from trainables.networks.base import SegmentationNetwork

__all__ = ["SegmentationNetwork", "build", "family_class", "head_path"]


def family_class(config: NetworkConfig) -> type[SegmentationNetwork]:
    """Import and return the class of a network."""
    if isinstance(config, AdmConfig):
        from trainables.networks.adm import AdmUNet

        return AdmUNet
    if isinstance(config, DeepLabConfig):
        from trainables.networks.deeplab import DeepLab

        return DeepLab
    from trainables.networks.segformer import SegFormer

    return SegFormer


def head_path(config: NetworkConfig) -> str:
    """Return the name of the last layer in the network's weights."""
    return family_class(config).HEAD


def build(config: NetworkConfig, outputs: int) -> SegmentationNetwork:
    """Return a freshly initialised network; weights are drawn from PyTorch's global generator."""
    network: SegmentationNetwork = family_class(config)(config, outputs)
    return network
