"""Which labels a dataset of so many classes may have, and which it has.

Shape suffixes: K classes.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from trainables.data.contents import Contents
from trainables.data.info import IGNORED, Sample


def wrong_label(labels: NDArray[np.uint8], classes: int) -> str | None:
    """Return what is wrong with label maps of any shape, or None if every label is a class."""
    if not labels.size or labels.max() < classes:
        return None  # Without a copy, as most label maps have it.
    labelled = labels[labels != IGNORED]
    if not labelled.size or labelled.max() < classes:
        return None
    return (
        f"label {labelled.max()}, but the {classes} classes are 0 to {classes - 1}, "
        f"and {IGNORED} for ignored pixels"
    )


class Tally:
    """Counts the labels of samples that pass by."""

    def __init__(self, classes: int) -> None:
        self.pixels_K = np.zeros(classes, np.int64)
        """Pixels of each class so far."""
        self._images: list[tuple[str, str, tuple[int, ...]]] = []

    def counted(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Pass samples on, and count their pixels."""
        classes = len(self.pixels_K)
        for sample in samples:
            counts = np.bincount(sample.labels_HW.ravel(), minlength=IGNORED + 1)[:classes]
            self.pixels_K += counts
            shown = tuple(counts.nonzero()[0].tolist())
            self._images.append((sample.id, sample.split, shown))
            yield sample

    def contents(self) -> Contents:
        """Return which classes each of the samples shows."""
        ids, splits, classes = zip(*self._images, strict=True) if self._images else ((), (), ())
        return Contents(ids=ids, official_split=splits, classes=classes)
