"""Reading one chest X-ray with its lung masks; shared by the X-ray datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.data.errors import BadImageError
from trainables.data.info import Entry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGE_FOLDERS = ("CXR_png", "images")
ASPECT_TOLERANCE = 0.02  # Copies of the masks differ from their X-ray by a few pixels at most.


def read_lungs(entry: Entry) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the equalised X-ray, float32 HW in [0, 255], and its labels: 1 in any of the masks.

    Equalised at original size and bit depth, before anything is resized.

    Raises:
        BadImageError: if a file cannot be read, or a mask is not of the X-ray's shape.
    """
    import numpy as np

    from trainables.data.chest_xray import equalise
    from trainables.data.images import read_grey, read_mask

    grey_HW = read_grey(entry.image)
    masks = [read_mask(path) for path in entry.masks]
    for path, mask_HW in zip(entry.masks, masks, strict=True):
        if mask_HW.shape != masks[0].shape or not _same_aspect(mask_HW.shape, grey_HW.shape):
            raise BadImageError(
                f"{path}: mask of {_size(mask_HW)} for an X-ray of {_size(grey_HW)} pixels"
            )
    return equalise(grey_HW), np.logical_or.reduce(masks).astype(np.uint8)


def _same_aspect(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """A mask may be smaller than its X-ray, but never turned or cropped."""
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= ASPECT_TOLERANCE


def _size(array_HW: NDArray[np.generic]) -> str:
    return f"{array_HW.shape[1]}x{array_HW.shape[0]}"
