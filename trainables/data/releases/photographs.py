"""Reading one photograph with the mask of one lesion; shared by the skin datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.data.info import Entry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def read_photograph(entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the photograph, RGB, and its labels: 1 inside the mask.

    Raises:
        BadImageError: if a file cannot be read, or the mask is not of the photograph's size.
    """
    import numpy as np

    from trainables.data.files.images import read_colour, read_mask, require_shape

    image_HWC, mask_HW = read_colour(entry.image), read_mask(entry.masks[0])
    require_shape(entry.masks[0], mask_HW.shape, image_HWC.shape)
    return image_HWC, mask_HW.astype(np.uint8)
