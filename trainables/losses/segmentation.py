"""Segmentation loss: cross-entropy over the pixels that have a label.

Written out rather than taken from `torch.nn.functional`, whose two-dimensional version has no
deterministic backward pass on CUDA.

Shape suffixes: B batch, K classes, H height, W width; no suffix, a scalar.
Units: labels are class numbers from 0, or `IGNORE`; losses are in nats.
"""

from __future__ import annotations

import torch
from torch import Tensor

IGNORE = 255  # Pixels without a label, in every dataset.


def segmentation_loss(logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
    """Return the mean cross-entropy over the labelled pixels of the whole batch, float32.

    0 if no pixel has a label, where PyTorch's own would answer NaN and end the run.
    """
    total, pixels = segmentation_loss_sum(logits_BKHW, labels_BHW)
    return total / pixels.clamp(min=1)


def segmentation_loss_sum(logits_BKHW: Tensor, labels_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy and the number of labelled pixels, for accumulation.

    Sums of micro-batches add up to the sum of the batch; their means would not, since micro-batches
    differ in their number of labelled pixels.

    Args:
        logits_BKHW: network output, raw values.
        labels_BHW: integers in 0..K-1, or `IGNORE`. A label outside of both adds nothing to the
            sum, though it is counted: datasets are checked when they are prepared.
    """
    log_probability_BKHW = torch.log_softmax(logits_BKHW.float(), dim=1)
    classes_K = torch.arange(logits_BKHW.shape[1], device=labels_BHW.device)
    chosen_BKHW = labels_BHW[:, None] == classes_K[:, None, None]
    total = -torch.where(chosen_BKHW, log_probability_BKHW, 0.0).sum()
    return total, (labels_BHW != IGNORE).sum()
