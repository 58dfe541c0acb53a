"""Which labels a dataset of so many classes may have."""

import numpy as np
from numpy.typing import NDArray

from trainables.data.info import IGNORED


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
