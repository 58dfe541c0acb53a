"""Label maps whose labels are worked out where they are looked at, since few pixels of a large mask are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LaterLabels:
    """A label map that is made from what a file stores, pixel by pixel, once it is known which are used."""

    stored: NDArray[np.integer[Any]]
    """HW or HWC."""
    mapped: Callable[[NDArray[np.integer[Any]]], NDArray[np.uint8]]
    """Stored pixels -> their labels; every stored value has one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width."""
        return self.stored.shape[:2]

    def at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the labels where these rows and columns cross."""
        return self.mapped(self.stored[rows][:, columns])

    def whole(self) -> NDArray[np.uint8]:
        """Return labels_HW."""
        return self.mapped(self.stored)
