"""Reading one chest X-ray with its lung masks; shared by the X-ray datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.data.info import Entry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGE_FOLDERS = ("CXR_png", "images", "cxr")
MASK_FOLDERS = ("masks", "mask")


def read_lungs(entry: Entry) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the equalised X-ray, float32 HW in [0, 255], and its labels: 1 in any of the masks.

    Equalised at original size and bit depth, before anything is resized.

    Raises:
        BadImageError: if a file cannot be read, or a mask is not of the X-ray's shape.
    """
    import numpy as np

    from trainables.data.files.images import read_grey, read_mask, require_aspect, require_shape
    from trainables.data.releases.chest_xray import equalise

    grey_HW = read_grey(entry.image)
    masks = [read_mask(path) for path in entry.masks]
    for path, mask_HW in zip(entry.masks, masks, strict=True):
        require_shape(path, mask_HW.shape, masks[0].shape)
        require_aspect(path, mask_HW.shape, grey_HW.shape)
    return equalise(grey_HW), np.logical_or.reduce(masks).astype(np.uint8)
