"""Chest X-ray preprocessing: histogram equalisation and gamma, at the X-ray's own bit depth.

Source: Oh, Park & Ye, "Deep learning COVID-19 features on CXR using limited training data sets",
IEEE TMI 2020, whose public code this restates.

Shape suffixes: H height, W width, N grey levels. Units: grey levels in, [0, 255] out.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

GAMMA = 0.5
MOST_LEVELS = 2**16


def equalise(grey_HW: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Return the X-ray with its levels spread by their cumulative counts, then brightened.

    The darkest level that occurs becomes 0, the brightest 255. A constant image becomes 0.

    Raises:
        ValueError: if the array is not of integer levels in [0, 65536).
    """
    if not np.issubdtype(grey_HW.dtype, np.integer):
        raise ValueError(f"an X-ray must have integer grey levels, got {grey_HW.dtype}")
    # int: 255 + 1 in the uint8 of an 8-bit image would be 0.
    darkest, brightest = int(grey_HW.min()), int(grey_HW.max())
    if darkest < 0 or brightest >= MOST_LEVELS:
        raise ValueError(f"grey levels must lie in [0, 65535], got {darkest} to {brightest}")
    cumulative_N = np.bincount(grey_HW.ravel(), minlength=brightest + 1).cumsum()
    low, total = int(cumulative_N[darkest]), grey_HW.size
    if low == total:
        return np.zeros(grey_HW.shape, np.float32)
    # Levels below the darkest have a cumulative count of 0 and do not occur: any value will do.
    spread_N = (cumulative_N - low).clip(0) / (total - low)
    table_N: NDArray[np.float32] = (255 * spread_N**GAMMA).astype(np.float32)
    equalised: NDArray[np.float32] = table_N[grey_HW]
    return equalised
