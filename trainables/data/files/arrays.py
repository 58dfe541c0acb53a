"""Label maps in NumPy files, untrusted as images are."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.errors import BadImageError
from trainables.data.files.images import MAX_PIXELS, TOO_LARGE
from trainables.data.info import IGNORED

WIDEST = 8  # Bytes of a number in an array.


def load_array(path: Path) -> NDArray[Any]:
    """Return an array of two dimensions from a NumPy file.

    Raises:
        BadImageError: if it is no such array, or larger than an image may be.
    """
    try:
        small = path.stat().st_size <= MAX_PIXELS * WIDEST
        array = np.load(path, allow_pickle=False) if small else None
    except (OSError, EOFError, MemoryError, ValueError) as error:
        raise BadImageError(f"{path}: not a readable array: {error}") from error
    if array is None or getattr(array, "size", 0) > MAX_PIXELS:
        raise BadImageError(f"{path}: not a readable array: {TOO_LARGE}")
    if not isinstance(array, np.ndarray):
        raise BadImageError(f"{path}: holds several arrays, a label map is one")
    if array.ndim != 2 or not array.size:
        raise BadImageError(f"{path}: shape {array.shape}, a label map has two dimensions")
    return array


def read_npy_labels(path: Path) -> NDArray[np.uint8]:
    """Return labels_HW from a NumPy file.

    Raises:
        BadImageError: if it is no array, or not one of two dimensions with integers in [0, 255].
    """
    labels_HW = load_array(path)
    if not np.issubdtype(labels_HW.dtype, np.integer):
        raise BadImageError(f"{path}: {labels_HW.dtype}, a label map has integers")
    if labels_HW.min() < 0 or labels_HW.max() > IGNORED:
        low, high = labels_HW.min(), labels_HW.max()
        beyond = "above 255" if high > IGNORED else "below 0"
        raise BadImageError(f"{path}: labels {low} to {high}, {beyond}")
    return labels_HW.astype(np.uint8)
