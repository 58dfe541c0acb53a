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
from trainables.data.images import Box, resize_image, resize_labels
from trainables.data.info import LabelsAt
from trainables.data.store import ArrowDataset

MOST_CROPPED = 0.05  # Of the side, from each of the four borders.

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""One image, HWC, and its labels, HW."""


def load_batch(
    dataset: ArrowDataset,
    indices: Sequence[int] | NDArray[np.int64],
    *,
    image_size: int,
    augmentation: Augmentation,
    seeds: Sequence[int] | None,
) -> tuple[Tensor, Tensor]:
    """Return images_BCHW, float32, and labels_BHW, int64, of `image_size` pixels a side.

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
        return _tensors(images_BSSC, labels_BSS)
    images, labels_of = zip(*pairs, strict=True)
    return _tensors(np.stack(images), np.stack(labels_of))


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


def _tensors(
    images_BHWC: NDArray[np.uint8], labels_BHW: NDArray[np.uint8]
) -> tuple[Tensor, Tensor]:
    levels_BCHW = torch.from_numpy(np.ascontiguousarray(images_BHWC.transpose(0, 3, 1, 2)))
    images_BCHW = levels_BCHW.float().mul_(2).div_(255).sub_(1)
    return images_BCHW, torch.from_numpy(labels_BHW).long()
