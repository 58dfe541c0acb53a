"""What the networks that start from ImageNet weights have in common.

Shape suffixes: B batch, C image channels, H height, W width.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from trainables.networks.base import SegmentationNetwork

MEAN = (
    0.485,
    0.456,
    0.406,
)  # Of RGB in [0, 1] over ImageNet-1K; what the weights were trained with.
STD = (0.229, 0.224, 0.225)


class ImagenetNetwork(SegmentationNetwork):
    """A network whose encoder has published ImageNet weights; its noise level is ignored."""

    FOREIGN_NAMES: ClassVar[tuple[tuple[str, str], ...]]
    """Patterns and replacements, applied in order, that turn published names into the encoder's."""

    @property
    @abstractmethod
    def encoder(self) -> nn.Module:
        """The part that ImageNet weights are for."""


class ImagenetNormalisation(nn.Module):
    """Turn images in [-1, 1] into what an ImageNet encoder expects."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Constants, not state: they move with the network but are in no weight file, and so have
        # their values even where the network is laid out on the meta device to be loaded.
        for name, values in (("mean_C11", MEAN), ("std_C11", STD)):
            constant = torch.tensor(values, device="cpu")[:, None, None]
            self.register_buffer(name, constant, persistent=False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return ((images_BCHW + 1) / 2 - self.mean_C11) / self.std_C11
