"""Telling copies of an image, however they were encoded, resized, equalised or mirrored, from others.

Two checks that look at different things. *Layout* is a 16 x 16 reduction, in which every copy agrees
with its original, and X-rays of two people or two photographs of one kind may. *Detail* is what is
finer than about a fiftieth of the side, at the stored resolution: of two images it shows agreement by
chance only. Both are of ranks of grey levels, so that no monotone change of levels matters: equalising,
gamma, brightness. Neither survives cropping or turning.

Agreement is a correlation in [-1, 1]. Only the same pixels prove that two images are one.

Shape suffixes: N, M images, S side of the detail, D = 256 values of a layout.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

LAYOUT_SIDE = 16
DETAIL_SIDE = 128  # Most pixels of a side that are compared.
SAME_LAYOUT = 0.95
FLATTEST = 0.02  # Contrast, of all ranks, below which detail counts for less: noise and banding.
ROWS_AT_ONCE = 1024  # Of the matrix of agreements.

Vectors = NDArray[np.float32]


def ranks(image_HWC: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Return the share of darker pixels for each pixel, in [0, 1], of at most `side` pixels a side."""
    grey = Image.fromarray(image_HWC).convert("L")
    if grey.width > side:
        grey = grey.resize((side, side), Image.Resampling.BILINEAR)
    levels_SS = np.asarray(grey)
    counts = np.bincount(levels_SS.ravel(), minlength=256)
    share = ((counts.cumsum() - counts / 2) / levels_SS.size).astype(np.float32)
    ranked: NDArray[np.float32] = share[levels_SS]
    return ranked


def layout(image_HWC: NDArray[np.uint8]) -> Vectors:
    """Return the layout of an image, D values of mean 0 and length 1; all 0 if it is of one level."""
    whole = Image.fromarray(ranks(image_HWC, len(image_HWC)))
    small = np.asarray(whole.resize((LAYOUT_SIDE, LAYOUT_SIDE), Image.Resampling.BILINEAR)).ravel()
    if not np.ptp(small):
        return np.zeros(small.size, np.float32)
    return _unit(rankdata(small))  # Ties share a rank: a black margin has no order of its own.


def detail(image_HWC: NDArray[np.uint8], side: int) -> Vectors:
    """Return the fine detail of an image, at `side` pixels, SS of mean 0 and length 1.

    Args:
        side: at most the image's own; two images are compared at the smaller of theirs.
    """
    ranks_SS = ranks(image_HWC, side)
    fine_SS = ranks_SS - gaussian_filter(ranks_SS, max(1.0, side / 50))
    # As strong everywhere: one bright border would decide otherwise.
    strength_SS = np.sqrt(gaussian_filter(fine_SS**2, side / 16) + FLATTEST**2)
    return _unit(fine_SS / strength_SS)


def least_detail(side: int) -> float:
    """Return the agreement in detail from which two images look alike.

    The fewer pixels there are, the more of it two different images have by chance.
    """
    return min(0.5 + 10 / side, 0.95)


def mirrored(vectors: Vectors) -> Iterator[tuple[bool, Vectors]]:
    """Yield square arrays in the last two axes as they are, and mirrored along either and both axes."""
    for rows, columns in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        yield (rows, columns) != (1, 1), vectors[..., ::rows, ::columns]


def candidates(ours_ND: Vectors, theirs_MD: Vectors) -> Iterator[tuple[int, int]]:
    """Yield the pairs of rows whose layouts agree, mirrored or not, ascending and once each."""
    turned = [
        np.ascontiguousarray(each.reshape(len(theirs_MD), -1))
        for _, each in mirrored(theirs_MD.reshape(-1, LAYOUT_SIDE, LAYOUT_SIDE))
    ]
    for first in range(0, len(ours_ND), ROWS_AT_ONCE):
        part = ours_ND[first : first + ROWS_AT_ONCE]
        best = np.full((len(part), len(theirs_MD)), -1, np.float32)
        for each in turned:
            np.maximum(best, part @ each.T, out=best)
        for row, column in zip(*np.nonzero(best >= SAME_LAYOUT), strict=True):
            yield first + int(row), int(column)


def agreement(ours_SS: Vectors, theirs_SS: Vectors) -> tuple[float, bool]:
    """Return the agreement of two details of one side, and whether it is that of a mirrored image."""
    found = [(float((ours_SS * each).sum()), flipped) for flipped, each in mirrored(theirs_SS)]
    return max(found, key=lambda each: each[0])


def _unit(values: Vectors) -> Vectors:
    centred = values - values.mean()
    length = float(np.linalg.norm(centred))
    unit: Vectors = (centred / length if length > 1e-6 else 0 * centred).astype(np.float32)
    return unit
