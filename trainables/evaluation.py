"""Scoring a network on images: the same few lines for validation, hold-out and test."""

from collections.abc import Callable, Iterator
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.config import DatasetRef
from trainables.data.feeding.ahead import ReadAhead
from trainables.data.feeding.batches import Levels, load_levels, ready_for, tensors_on
from trainables.data.store import ArrowDataset
from trainables.metrics import Accumulator, empty

Predict = Callable[[Tensor], Tensor]
"""images_BCHW float32 in [-1, 1], on any device -> labels_BHW int64 in [0, classes), on any device."""

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
        return logits_BKHW.argmax(1)

    return predict


def score(
    data: ArrowDataset,
    indices: NDArray[np.int64],
    ref: DatasetRef,
    predict: Predict,
    device: str = "cpu",
) -> dict[str, float]:
    """Return the scores of `predict` over the images `indices`, by name and in percent.

    The images are not augmented. `ref.metric` is among the names.

    Args:
        device: that `predict` computes on.
    """
    return total(score_each(data, indices, ref, predict, device), ref)


def score_each(
    data: ArrowDataset,
    indices: NDArray[np.int64],
    ref: DatasetRef,
    predict: Predict,
    device: str = "cpu",
) -> list[Accumulator]:
    """Return the counts of each image by itself, in the order of `indices`."""
    nothing = empty(ref.metric, ref.classes)
    return [
        nothing.add(predicted_HW[None], true_HW[None])
        for predicted_BHW, true_BHW in _answers(data, indices, ref, predict, device)
        for predicted_HW, true_HW in zip(predicted_BHW, true_BHW, strict=True)
    ]


def total(each: list[Accumulator], ref: DatasetRef) -> dict[str, float]:
    """Return the scores over all images, by name and in percent."""
    return reduce(lambda a, b: a.merge(b), each, empty(ref.metric, ref.classes)).compute()


def _answers(
    data: ArrowDataset,
    indices: NDArray[np.int64],
    ref: DatasetRef,
    predict: Predict,
    device: str,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield predicted and true label maps, a batch at a time.

    A GPU never waits: while it computes a batch, the one before is counted and the next is read.
    """

    def read(number: int) -> Levels:
        start = number * EVALUATION_BATCH
        chosen = indices[start : start + EVALUATION_BATCH]
        levels = load_levels(
            data, chosen, image_size=ref.image_size, augmentation="none", seeds=None
        )
        return ready_for(device, levels)

    batches = -(-len(indices) // EVALUATION_BATCH)
    beside = not device.startswith("cpu")
    ahead = ReadAhead(read, end=batches, ahead=beside)
    waiting: list[tuple[Tensor, Tensor]] = []
    for number in range(batches):
        images_BHWC, labels_BHW = ahead(number)
        images_BCHW, _ = tensors_on(device, images_BHWC, labels_BHW[:0])
        waiting.append((predict(images_BCHW), labels_BHW.long()))
        if len(waiting) > beside:
            predicted_BHW, true_BHW = waiting.pop(0)
            yield predicted_BHW.cpu(), true_BHW
    for predicted_BHW, true_BHW in waiting:
        yield predicted_BHW.cpu(), true_BHW
