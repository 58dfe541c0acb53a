"""Batches of tensors from a prepared dataset, augmented by seeds that the caller derives.

One seed per sample and nothing else decides its augmentation, so that no worker, batch size or
resume can move it.

Shape suffixes: B batch, C channels, H height, W width, S stored side.
Units: images in [-1, 1], 2 * v / 255 - 1 of the stored v; labels are class ids, 255 is ignored.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.config import Augmentation
from trainables.data.files.images import Box, resize_image, resize_labels
from trainables.data.info import LabelsAt
from trainables.data.store import ArrowDataset

MOST_CROPPED = 0.05  # Of the side, from each of the four borders.

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""One image, HWC, and its labels, HW."""


Levels = tuple[Tensor, Tensor]
"""images_BHWC and labels_BHW as they are stored, uint8."""


def load_levels(
    dataset: ArrowDataset,
    indices: Sequence[int] | NDArray[np.int64],
    *,
    image_size: int,
    augmentation: Augmentation,
    seeds: Sequence[int] | None,
) -> Levels:
    """Return a batch of `image_size` pixels a side as it is stored, which `tensors_on` makes tensors of.

    Args:
        augmentation: `flips` mirrors left-right and up-down, each with probability one half;
            `border_crop` moves each border inwards by up to 5 % of the side and resizes.
        seeds: one per index; None does not augment, whatever `augmentation` says.
    """
    images_BSSC, labels_BSS = dataset.images(indices), dataset.labels(indices)
    if seeds is not None and augmentation != "none":
        draws = [np.random.default_rng(seed) for seed in seeds]
        pairs = [
            augment(image, labels, image_size, augmentation, draw, labels_at=dataset.labels_at)
            for image, labels, draw in zip(images_BSSC, labels_BSS, draws, strict=True)
        ]
    elif images_BSSC.shape[1] != image_size:
        pairs = [
            _resized(image, labels, image_size, labels_at=dataset.labels_at)
            for image, labels in zip(images_BSSC, labels_BSS, strict=True)
        ]
    else:
        return torch.from_numpy(images_BSSC), torch.from_numpy(labels_BSS)
    images, labels_of = zip(*pairs, strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels_of))


def pinned(levels: Levels) -> Levels:
    """Return the batch in memory that a GPU copies from by itself."""
    images_BHWC, labels_BHW = levels
    return images_BHWC.pin_memory(), labels_BHW.pin_memory()


def ready_for(device: str, levels: Levels) -> Levels:
    """Return the batch where a device takes it from without making this process wait."""
    return pinned(levels) if device.startswith("cuda") else levels


def tensors_on(device: str, images_BHWC: Tensor, labels_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return images_BCHW, float32, and labels_BHW, int64, on a device, of the same values on each."""
    if device.startswith("cpu"):
        levels_BCHW = images_BHWC.permute(0, 3, 1, 2).contiguous()
        return _scaled(levels_BCHW), labels_BHW.long()
    images_BHWC = images_BHWC.to(device, non_blocking=True)
    labels_BHW = labels_BHW.to(device, non_blocking=True)
    return looked_up(images_BHWC), labels_BHW.long()


def looked_up(images_BHWC: Tensor) -> Tensor:
    """Return images_BCHW, float32, each level looked up among the 256 values that the CPU computes.

    A GPU divides by a constant by multiplying with its inverse, which rounds otherwise.
    """
    values = _scaled(torch.arange(256, dtype=torch.uint8)).to(images_BHWC.device)
    return values[images_BHWC.permute(0, 3, 1, 2).contiguous().int()]


def augment(
    image_SSC: NDArray[np.uint8],
    labels_SS: NDArray[np.uint8],
    image_size: int,
    augmentation: Augmentation,
    draw: np.random.Generator,
    *,
    labels_at: LabelsAt = "centre",
) -> Pair:
    """Return image and labels after the same random change, of `image_size` pixels a side."""
    if augmentation == "border_crop":
        side = len(image_SSC)
        left, top, right, bottom = draw.uniform(0, MOST_CROPPED * side, 4)
        box = (left, top, side - right, side - bottom)
        return _resized(image_SSC, labels_SS, image_size, box, labels_at=labels_at)
    flipped = draw.random(2) < 0.5
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flipped)
    return _resized(image_SSC[steps], labels_SS[steps], image_size, labels_at=labels_at)


def _resized(
    image_SSC: NDArray[np.uint8],
    labels_SS: NDArray[np.uint8],
    image_size: int,
    box: Box | None = None,
    *,
    labels_at: LabelsAt,
) -> Pair:
    if box is None and len(image_SSC) == image_size:
        return image_SSC, labels_SS
    image = resize_image(image_SSC, image_size, box)
    return image, resize_labels(labels_SS, image_size, box, at=labels_at)


def _scaled(levels: Tensor) -> Tensor:
    return levels.float().mul_(2).div_(255).sub_(1)
