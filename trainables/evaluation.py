"""Scoring a network on images: the same few lines for validation, hold-out and test."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.config import DatasetRef
from trainables.data.batches import load_batch
from trainables.data.store import ArrowDataset
from trainables.metrics import empty

Predict = Callable[[Tensor], Tensor]
"""images_BCHW float32 in [-1, 1] on the CPU -> labels_BHW int64 in [0, classes) on the CPU."""

EVALUATION_BATCH = 16  # Images per forward pass; no batch statistics are taken at evaluation.


def segment_with(network: nn.Module, *, timestep: int, device: str) -> Predict:
    """Return a function that labels every pixel with the largest of the network's outputs."""

    @torch.inference_mode()
    def predict(images_BCHW: Tensor) -> Tensor:
        network.eval()
        t_B = torch.full((len(images_BCHW),), timestep, device=device)
        logits_BKHW: Tensor = network(images_BCHW.to(device), t_B)
        return logits_BKHW.argmax(1).cpu()

    return predict


def score(
    data: ArrowDataset, indices: NDArray[np.int64], ref: DatasetRef, predict: Predict
) -> dict[str, float]:
    """Return the scores of `predict` over the images `indices`, by name and in percent.

    The images are not augmented. `ref.metric` is among the names.
    """
    counts = empty(ref.metric, ref.classes)
    for start in range(0, len(indices), EVALUATION_BATCH):
        images_BCHW, labels_BHW = load_batch(
            data,
            indices[start : start + EVALUATION_BATCH],
            image_size=ref.image_size,
            augmentation="none",
            seeds=None,
        )
        counts = counts.add(predict(images_BCHW), labels_BHW)
    return counts.compute()
