"""The counts of each test image, as runs left them, and the score of any selection of images.

Shape suffixes: N images, K counted classes, B selections.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.config import Metric

FILE = "test_images.arrow"
TINY = 1e-8  # In pixels; LEDM's guard against an empty union, as in the metric itself.

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ImageCounts:
    """Pixels of each test image in prediction and truth, and in either, per counted class."""

    ids: tuple[str, ...]
    both_NK: Floats
    either_NK: Floats

    def scores(self, metric: Metric, weights_BN: Floats) -> Floats:
        """Return the score of each selection of images, in percent, as (B,).

        Args:
            weights_BN: how often each image is in a selection; all ones is the test part itself.
        """
        if metric == "jaccard":
            both_N, either_N = self.both_NK[:, 0], self.either_NK[:, 0]
            index_N = np.where(either_N == 0, 1.0, both_N / np.maximum(either_N, 1))
            return np.asarray(100 * (weights_BN @ index_N) / weights_BN.sum(1))
        both_BK, either_BK = weights_BN @ self.both_NK, weights_BN @ self.either_NK
        return np.asarray(100 * (both_BK / (either_BK + TINY)).mean(1))


def read_images(artifacts: Path) -> ImageCounts | None:
    """Return what a fine-tuning left about its test images; None if it left nothing of it."""
    import pyarrow as pa

    try:
        content = (artifacts / FILE).read_bytes()
    except FileNotFoundError:
        return None
    # The one batch that was written: a table of chunks takes twice as long, ten thousand times.
    rows = pa.ipc.open_file(pa.py_buffer(content)).get_batch(0)
    return ImageCounts(
        ids=tuple(rows["id"].to_pylist()),
        both_NK=_matrix(rows["both"]),
        either_NK=_matrix(rows["either"]),
    )


def _matrix(lists: Any) -> Floats:
    """Return a column of lists of one length as (N, K)."""
    values = lists.flatten().to_numpy()
    return np.asarray(values.reshape(len(lists), -1), dtype=np.float64)
