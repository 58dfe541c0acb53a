"""What the table shows: one module per metric, accumulated in integers.

An accumulator is a value: images are added to it and parts are merged in any grouping without
changing the result, and nothing depends on the batch size.
"""

from __future__ import annotations

from typing import Protocol, Self

from torch import Tensor

from trainables.config import Metric
from trainables.metrics.jaccard import Jaccard
from trainables.metrics.miou import Miou

__all__ = ["Accumulator", "Jaccard", "Miou", "empty"]


class Accumulator(Protocol):
    """Counts over images, from which the scores are computed at the end."""

    def add(self, prediction_BHW: Tensor, truth_BHW: Tensor) -> Self:
        """Return the counts with these images added; both are label maps."""

    def merge(self, other: Self) -> Self:
        """Return the counts of both, `other`'s images after this one's."""

    def compute(self) -> dict[str, float]:
        """Return each score by name, in percent. The metric's own name is the table's number."""


def empty(metric: Metric, classes: int) -> Accumulator:
    """Return the accumulator of a metric, before any image."""
    return Jaccard.empty() if metric == "jaccard" else Miou.empty(classes)
