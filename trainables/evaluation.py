"""Scoring a network on images: the same few lines for validation, hold-out and test."""

from collections.abc import Callable, Iterator
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.config import DatasetRef
from trainables.data.feeding.batches import load_batch
from trainables.data.store import ArrowDataset
from trainables.metrics import Accumulator, empty

Predict = Callable[[Tensor], Tensor]
"""images_BCHW float32 in [-1, 1] on the CPU -> labels_BHW int64 in [0, classes) on the CPU."""

EVALUATION_BATCH = 16  # Images per forward pass; no batch statistics are taken at evaluation.


def segment_with(network: nn.Module, *, timestep: int, device: str, bf16: bool = False) -> Predict:
    """Return a function that labels every pixel with the largest of the network's outputs.

    Args:
        bf16: compute in bfloat16 what may be, as a training under autocast does.
    """
    kind = torch.device(device).type

    @torch.inference_mode()
    def predict(images_BCHW: Tensor) -> Tensor:
        network.eval()
        t_B = torch.full((len(images_BCHW),), timestep, device=device)
        with torch.autocast(kind, torch.bfloat16, enabled=bf16):
            logits_BKHW: Tensor = network(images_BCHW.to(device), t_B)
        return logits_BKHW.argmax(1).cpu()

    return predict


def score(
    data: ArrowDataset, indices: NDArray[np.int64], ref: DatasetRef, predict: Predict
) -> dict[str, float]:
    """Return the scores of `predict` over the images `indices`, by name and in percent.

    The images are not augmented. `ref.metric` is among the names.
    """
    return total(score_each(data, indices, ref, predict), ref)


def score_each(
    data: ArrowDataset, indices: NDArray[np.int64], ref: DatasetRef, predict: Predict
) -> list[Accumulator]:
    """Return the counts of each image by itself, in the order of `indices`."""
    nothing = empty(ref.metric, ref.classes)
    return [
        nothing.add(predicted_HW[None], true_HW[None])
        for predicted_BHW, true_BHW in _answers(data, indices, ref, predict)
        for predicted_HW, true_HW in zip(predicted_BHW, true_BHW, strict=True)
    ]


def total(each: list[Accumulator], ref: DatasetRef) -> dict[str, float]:
    """Return the scores over all images, by name and in percent."""
    return reduce(lambda a, b: a.merge(b), each, empty(ref.metric, ref.classes)).compute()


def _answers(
    data: ArrowDataset, indices: NDArray[np.int64], ref: DatasetRef, predict: Predict
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield predicted and true label maps, a batch at a time."""
    for start in range(0, len(indices), EVALUATION_BATCH):
        images_BCHW, labels_BHW = load_batch(
            data,
            indices[start : start + EVALUATION_BATCH],
            image_size=ref.image_size,
            augmentation="none",
            seeds=None,
        )
        yield predict(images_BCHW), labels_BHW
