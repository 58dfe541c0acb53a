"""Mean intersection over union per class: the metric of the face target, as LEDM's code has it.

`miou_ledm` is the table's number: pixels are pooled over all images, class by class, and the mean is
over all classes, class 0 like any other. It differs from what most libraries compute: a class that
occurs neither in predictions nor in truth scores 0 and is counted, and pixels without a label are not
masked out, so predicting a class there enlarges its union. `miou_present`, beside it, averages
over the classes that occur.

Source: Baranchuk et al., "Label-efficient semantic segmentation with diffusion models", 2022,
https://arxiv.org/abs/2112.03126.

Shape suffixes: B batch, K classes, H height, W width.
Units: label maps in class numbers or 255; scores in percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum
from typing import Self

from torch import Tensor, bincount

from trainables.metrics.label_maps import require_same_shape

LABELS = 256  # Label maps are 8 bits deep.
TINY = 1e-8  # In pixels; LEDM's guard against an empty union.


@dataclass(frozen=True)
class Miou:
    """Pixels in both, and in either, of prediction and truth, for each class over all images."""

    both_K: tuple[int, ...]
    either_K: tuple[int, ...]

    @classmethod
    def empty(cls, classes: int) -> Self:
        """Return the accumulator of no image."""
        return cls((0,) * classes, (0,) * classes)

    def add(self, prediction_BHW: Tensor, truth_BHW: Tensor) -> Self:
        """Return the counts with these images added.

        Raises:
            ValueError: if the two differ in shape.
        """
        require_same_shape(prediction_BHW, truth_BHW)
        classes = len(self.both_K)
        both = _pixels(prediction_BHW[prediction_BHW == truth_BHW], classes)
        predicted, true = _pixels(prediction_BHW, classes), _pixels(truth_BHW, classes)
        either = (p + t - b for p, t, b in zip(predicted, true, both, strict=True))
        return self.merge(type(self)(tuple(both), tuple(either)))

    def merge(self, other: Self) -> Self:
        """Return the counts of both.

        Raises:
            ValueError: if they count another number of classes.
        """
        if len(self.both_K) != len(other.both_K):
            raise ValueError(f"cannot merge {len(self.both_K)} with {len(other.both_K)} classes")
        return type(self)(
            tuple(a + b for a, b in zip(self.both_K, other.both_K, strict=True)),
            tuple(a + b for a, b in zip(self.either_K, other.either_K, strict=True)),
        )

    def per_class(self) -> tuple[float, ...]:
        """Return the index of each class, in percent; 0 for a class that never occurs."""
        pairs = zip(self.both_K, self.either_K, strict=True)
        return tuple(100 * both / (either + TINY) for both, either in pairs)

    def compute(self) -> dict[str, float]:
        """Return `miou_ledm` and `miou_present`, in percent.

        Raises:
            ValueError: if there is no image to count in.
        """
        scores = self.per_class()
        present = [s for s, either in zip(scores, self.either_K, strict=True) if either]
        if not present:
            raise ValueError("the mean IoU of no image is not defined")
        return {
            "miou_ledm": fsum(scores) / len(scores),
            "miou_present": fsum(present) / len(present),
        }


def _pixels(labels: Tensor, classes: int) -> list[int]:
    # Integer counts without weights: the one form of bincount that is deterministic on CUDA.
    counts: list[int] = bincount(labels.flatten(), minlength=LABELS)[:classes].tolist()
    return counts
