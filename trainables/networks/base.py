"""What every network of the table promises, so that training code never asks which one it has.

A network maps images to one raw map per output channel at full input resolution. What a channel
means (image, class, regression, logit) is the business of the task, not of the network.

Shape suffixes: B batch, C image channels, N output channels, H height, W width.
Units: images in [-1, 1]; t counts from 0, the least noisy step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HeadConv2d(nn.Conv2d):
    """Last layer of a network: computed in float32 even under autocast.

    SNR weights reach 9999, so merely rounding the output to bfloat16 would cost 0.007 of loss at
    t = 0. Everything before it may be reduced.
    """

    multiple = 1
    """Computed with as many outputs as are a multiple of this, those too many with weights of zero:
    kernels for channels-last want 8."""

    @classmethod
    def holding(cls, layer: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> HeadConv2d:
        """Return a layer shaped like `layer` but with this weight and bias."""
        # On the meta device, so that making the layer draws nothing from the random generator.
        head = cls(
            weight.shape[1],
            weight.shape[0],
            _pair(layer.kernel_size),
            padding=_pair(layer.padding),
            bias=bias is not None,
            device="meta",
        )
        head.weight = nn.Parameter(weight.detach().clone())
        head.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        return head

    def forward(self, input: Tensor) -> Tensor:
        with without_autocast(input):
            missing = -self.out_channels % self.multiple
            if not missing:
                return super().forward(input.float())
            weight = F.pad(self.weight, (0, 0, 0, 0, 0, 0, 0, missing))
            bias = None if self.bias is None else F.pad(self.bias, (0, missing))
            padded: Tensor = self._conv_forward(input.float(), weight, bias)
            return padded[:, : self.out_channels]


def _pair(size: tuple[int, ...] | str) -> tuple[int, int]:
    assert not isinstance(size, str)  # "same" and "valid": none of the networks has such a layer
    height, width = size
    return height, width


def without_autocast(like: Tensor) -> torch.autocast:
    """Return a context in which operations on the device of `like` keep their precision."""
    # Shapes computed on the meta device know no autocast: there, any device's context will do.
    device = "cpu" if like.is_meta else like.device.type
    return torch.autocast(device, enabled=False)


class SegmentationNetwork(nn.Module, ABC):
    """A network with one output map per channel and a last layer that can be changed.

    Change the last layer before making the optimizer: its parameters are new objects.
    """

    HEAD: ClassVar[str]
    """Path of the last layer among the submodules."""

    @abstractmethod
    def forward(self, images_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """Return raw outputs_BNHW at the resolution of the images.

        Args:
            images_BCHW: in [-1, 1], noised or not.
            t_B: int64 noise level of each image; networks without a time input ignore it.
        """

    def use_one_layout(self) -> None:
        """Keep one memory layout from the input to the output; what an ADM does not do by itself."""

    def fuse_norms(self) -> None:
        """Compute normalisations and what follows them in one pass, in an ADM."""

    @property
    def head(self) -> HeadConv2d:
        """The last layer."""
        layer = self.get_submodule(self.HEAD)
        assert isinstance(layer, HeadConv2d)
        return layer

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return self.head.out_channels

    def replace_head(self, outputs: int) -> None:
        """Put a new last layer in place, with PyTorch's random initial weights, not zeros."""
        old = self.head
        # Drawn on the CPU whatever the device, so that the same seed gives the same head.
        new = nn.Conv2d(
            old.in_channels,
            outputs,
            _pair(old.kernel_size),
            padding=_pair(old.padding),
            device="meta" if old.weight.is_meta else "cpu",
        ).to(old.weight.device)
        self._set_head(new, new.weight, new.bias)

    def keep_outputs(self, first: int) -> None:
        """Drop the output channels before `first`; the others compute what they did before.

        Raises:
            ValueError: if that would leave no channel.
        """
        old = self.head
        if not 0 <= first < self.outputs:
            raise ValueError(f"cannot keep the outputs from {first} on, there are {self.outputs}")
        self._set_head(old, old.weight[first:], None if old.bias is None else old.bias[first:])

    def _set_head(self, layer: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
        head = HeadConv2d.holding(layer, weight, bias)
        if isinstance(self.get_submodule(self.HEAD), HeadConv2d):
            head.multiple = self.head.multiple
        self.set_submodule(self.HEAD, head)
