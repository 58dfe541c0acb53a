"""The loss of a batch as a sum over micro-batches, so that accumulated gradients are exact."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from trainables.losses.segmentation import IGNORE, segmentation_loss_sum


def segmentation_shares(
    answer: Callable[[Tensor, Tensor], Tensor],
    images_BCHW: Tensor,
    labels_BHW: Tensor,
    *,
    timestep: int,
    micro_batch: int | None,
) -> Iterator[Tensor]:
    """Yield each micro-batch's share of the mean pixel cross-entropy of the batch.

    The mean is over the pixels of the whole batch that are not ignored: averaging the means of
    micro-batches would weigh pixels by how many of their neighbours are ignored.

    Args:
        answer: (images, t_B) -> logits_BKHW.
        images_BCHW: in [-1, 1].
        labels_BHW: in [0, K), or 255 for pixels to ignore.
        timestep: condition of the ADM; the other networks ignore it.
        micro_batch: images per forward pass; None is all.
    """
    size = micro_batch or len(images_BCHW)
    pixels = (labels_BHW != IGNORE).sum().clamp(min=1)
    for images, labels in zip(images_BCHW.split(size), labels_BHW.split(size), strict=True):
        t_B = torch.full((len(images),), timestep, device=images.device)
        yield segmentation_loss_sum(answer(images, t_B), labels)[0] / pixels
