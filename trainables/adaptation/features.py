"""Pixel features of LEDM, kept where the network made them.

The official code resizes every decoder output to the full image and keeps an array of all pixels:
22 GB for 20 images at 256 px, 44 GB while it is copied. The same numbers are had without that
array, since bilinear resizing is a weighted mean of four neighbours: sampled pixels are gathered
from the native maps, and at inference the first linear layer is applied before resizing, with
which it commutes.

Source: Baranchuk et al., "Label-efficient semantic segmentation with diffusion models", 2022,
https://arxiv.org/abs/2112.03126, code of March 2022.

Shape suffixes: N images, C channels of one map, D channels of all maps, P sampled pixels, h w native
side, H W image side, U units of a linear layer.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.diffusion.schedule import Schedule
from trainables.networks.adm import AdmUNet
from trainables.networks.resizing import resize_bilinear

CACHED = 128  # Pixels whose features a CPU reads at a time.


class Features:
    """Decoder outputs of a frozen ADM at several noise levels.

    Args:
        network: in evaluation mode; its weights are not changed.
        noise_1CHW: one noise, shared by all images and all steps, in training and test.
        steps: noise levels.
        blocks: decoder blocks, counted from the coarsest.
    """

    def __init__(
        self,
        network: AdmUNet,
        noise_1CHW: Tensor,
        *,
        steps: Sequence[int],
        blocks: Sequence[int],
    ) -> None:
        self._network, self._noise_1CHW = network, noise_1CHW
        self._steps, self._blocks = steps, blocks
        self._schedule = Schedule(noise_1CHW.device)

    @torch.no_grad()
    def maps(self, images_NCHW: Tensor) -> list[Tensor]:
        """Return one map_NChw, float32, for each step and, within a step, each block."""
        maps = []
        for step in self._steps:
            t_N = torch.full((len(images_NCHW),), step, device=images_NCHW.device)
            noised = self._schedule.add_noise(images_NCHW, self._noise_1CHW, t_N)
            outputs = _decoded(self._network, noised, t_N, self._blocks)
            maps += [outputs[block].float() for block in self._blocks]
        return maps


class _LastBlockDecoded(Exception):
    """Ends a forward pass when nothing that follows is read."""


def _decoded(
    network: AdmUNet, images_NCHW: Tensor, t_N: Tensor, blocks: Sequence[int]
) -> dict[int, Tensor]:
    """Return the outputs of these decoder blocks.

    What comes after the last of them is not computed: at the paper's size, which reads up to block
    12 of 18, that is the two finest levels and their activations.
    """
    outputs: dict[int, Tensor] = {}
    last = max(blocks)

    def keep(block: int) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            outputs[block] = output
            if block == last:
                raise _LastBlockDecoded

        return network.decoder_block(block).register_forward_hook(hook)

    handles = [keep(block) for block in blocks]
    try:
        with suppress(_LastBlockDecoded):
            network(images_NCHW, t_N)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


@dataclass(frozen=True)
class _Neighbours:
    """For each row (or column) of the image, the two native ones around it, and how far between."""

    low: Tensor
    high: Tensor
    weight: Tensor

    @classmethod
    def of(cls, native: int, side: int, device: torch.device) -> "_Neighbours":
        """Return the tables of PyTorch's bilinear resizing with `align_corners=False`."""
        centre = (torch.arange(side, dtype=torch.float64) + 0.5) * native / side - 0.5
        centre = centre.clamp(min=0)
        low = centre.floor().long()
        high = (low + 1).clamp(max=native - 1)
        weight = (centre - low).float()
        return cls(low.to(device), high.to(device), weight.to(device))


class _Level:
    """All maps of one native size, of all images, with one pixel's channels lying together."""

    def __init__(
        self, which: Sequence[int], maps: Sequence[Tensor], images: int, side: int
    ) -> None:
        self.which = which
        self._native = maps[0].shape[-1]
        channels = sum(m.shape[1] for m in maps)
        self._rows = maps[0].new_empty(images * self._native**2, channels)
        self._neighbours = _Neighbours.of(self._native, side, maps[0].device)

    def store(self, first: int, maps: Sequence[Tensor]) -> None:
        """Take in the maps of the images from number `first` on."""
        maps_Nhwc = [maps[index].permute(0, 2, 3, 1) for index in self.which]
        pixels = self._native**2
        rows = self._rows[first * pixels : (first + len(maps_Nhwc[0])) * pixels]
        rows.copy_(torch.cat(maps_Nhwc, 3).flatten(0, 2))

    def room(self, pixels: int, features: int) -> Tensor:
        """Return memory for features of pixels, in the precision and on the device of the maps."""
        return self._rows.new_empty(pixels, features)

    def __call__(self, image_P: Tensor, row_P: Tensor, column_P: Tensor) -> Tensor:
        """Return the weighted mean of the four neighbours of each pixel, all channels at once."""
        table, native, rows = self._neighbours, self._native, self._rows
        first_P = image_P * native
        top_P = (first_P + table.low[row_P]) * native
        bottom_P = (first_P + table.high[row_P]) * native
        left_P, right_P = table.low[column_P], table.high[column_P]
        y, x = table.weight[row_P, None], table.weight[column_P, None]
        # In place: what is read is ours, and new memory would cost more than the arithmetic.
        top = rows[top_P + left_P].mul_(1 - x).add_(rows[top_P + right_P].mul_(x))
        bottom = rows[bottom_P + left_P].mul_(1 - x).add_(rows[bottom_P + right_P].mul_(x))
        return top.mul_(1 - y).add_(bottom.mul_(y))


class PixelGather:
    """Reads the features of single pixels out of native maps.

    The maps are copied as they come, so that they are never held twice: a gigabyte at paper scale.
    Maps of one native size lie side by side and are read in one go, 3 times per mini-batch at paper
    scale and not 15.

    Args:
        parts: map_NChw of each step and block, for some of the images at a time.
        images: how many there are in all.
        side: of the image, in pixels; images and maps are square.
    """

    def __init__(self, parts: Iterable[Sequence[Tensor]], images: int, side: int) -> None:
        self._levels: list[_Level] = []
        filled = 0
        for maps in parts:
            if not self._levels:
                self._lay_out(maps, images, side)
            for level in self._levels:
                level.store(filled, maps)
            filled += len(maps[0])

    def _lay_out(self, maps: Sequence[Tensor], images: int, side: int) -> None:
        natives = [m.shape[-1] for m in maps]
        for native in sorted(set(natives)):
            which = [index for index, n in enumerate(natives) if n == native]
            self._levels.append(_Level(which, [maps[i] for i in which], images, side))
        self._channels = [m.shape[1] for m in maps]
        # On a CPU so many as stay in its cache; a GPU takes all there are at once.
        self._at_once = CACHED if maps[0].device.type == "cpu" else None

    @property
    def features(self) -> int:
        """Channels of all maps together."""
        return sum(self._channels)

    def __call__(self, image_P: Tensor, row_P: Tensor, column_P: Tensor) -> Tensor:
        """Return features_PD of the pixels at (image, row, column) of the full-size images."""
        count = len(image_P)
        features_PD = self._levels[0].room(count, self.features)
        for start in range(0, count, self._at_once or count or 1):
            here = slice(start, start + (self._at_once or count))
            by_map = features_PD[here].split(self._channels, 1)
            for level in self._levels:
                read = level(image_P[here], row_P[here], column_P[here])
                parts = read.split([self._channels[index] for index in level.which], 1)
                for index, part in zip(level.which, parts, strict=True):
                    by_map[index].copy_(part)
        return features_PD


def project_then_upsample(
    maps: Sequence[Tensor], weight_UD: Tensor, bias_U: Tensor, side: int
) -> Tensor:
    """Return the first linear layer's answer for every pixel, (N, U, side, side).

    Equal, up to rounding, to resizing all maps, concatenating them and applying the layer; takes U
    channels at full size instead of D.
    """
    total: Tensor | None = None
    start = 0
    for native in maps:
        channels = native.shape[1]
        part_UC = weight_UD[:, start : start + channels]
        start += channels
        small = torch.einsum("nchw,uc->nuhw", native, part_UC)
        large = resize_bilinear(small, (side, side))
        total = large if total is None else total + large
    assert total is not None, "there is at least one map"
    return total + bias_U[None, :, None, None]
