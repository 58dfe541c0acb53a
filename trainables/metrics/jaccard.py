"""Average Jaccard index of the foreground: the metric of the skin and chest targets.

Averaged over images. Pooling the pixels of all images first gives another number, dominated by
large lesions. An image whose true mask is empty scores 100 if nothing is predicted in it, and 0 if a
single pixel is. Pixels without a label are not left out: foreground predicted there is wrong.

Shape suffixes: B batch, H height, W width.
Units: label maps in class numbers, 1 is the foreground; scores in percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum
from typing import Self

from torch import Tensor

from trainables.metrics.label_maps import require_same_shape

FOREGROUND = 1


@dataclass(frozen=True)
class Jaccard:
    """Pixels in both masks, and in either mask, of each image in turn."""

    counts: tuple[tuple[int, int], ...] = ()

    @classmethod
    def empty(cls) -> Self:
        """Return the accumulator of no image."""
        return cls()

    def add(self, prediction_BHW: Tensor, truth_BHW: Tensor) -> Self:
        """Return the counts with these images added.

        Raises:
            ValueError: if the two differ in shape.
        """
        require_same_shape(prediction_BHW, truth_BHW)
        predicted_BHW, true_BHW = prediction_BHW == FOREGROUND, truth_BHW == FOREGROUND
        both_B = (predicted_BHW & true_BHW).sum((1, 2)).tolist()
        either_B = (predicted_BHW | true_BHW).sum((1, 2)).tolist()
        return type(self)(self.counts + tuple(zip(both_B, either_B, strict=True)))

    def merge(self, other: Self) -> Self:
        """Return the counts of both, `other`'s images after this one's."""
        return type(self)(self.counts + other.counts)

    def per_image(self) -> tuple[float, ...]:
        """Return the index of each image, in percent; 100 where both masks are empty."""
        return tuple(100 * both / either if either else 100.0 for both, either in self.counts)

    def compute(self) -> dict[str, float]:
        """Return the mean over images as `jaccard`, in percent.

        Raises:
            ValueError: if there is no image to average over.
        """
        if not self.counts:
            raise ValueError("the Jaccard index of no image is not defined")
        return {"jaccard": fsum(self.per_image()) / len(self.counts)}
