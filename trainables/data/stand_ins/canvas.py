"""What the generated scenes are drawn with: coordinates, soft shapes, random fields, cameras.

Everything is a function of coordinates in [-1, 1], so that a scene is the same at every side.
float64 throughout: rounding to 8 bits then hides the last bits in which processors differ.

Shape suffixes: S side. Shapes are signed distances, negative inside, about in scene units.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Scene coordinates of every pixel; y points down."""

    x: Field
    y: Field
    pixel: float
    """Width of a pixel in scene units."""

    @property
    def side(self) -> int:
        return len(self.x)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """How a dataset was photographed: what differs between a source and its targets."""

    zoom: Range = (0.9, 1.1)
    turn: float = 0.1
    """Largest rotation, in radians."""
    shift: float = 0.1
    """Largest displacement along each axis, in scene units."""
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Gains of red, green and blue."""
    gamma: Range = (0.9, 1.1)
    contrast: Range = (0.9, 1.1)
    blur: float = 0.0
    """Standard deviation, in sides of the image."""
    noise: float = 0.02
    """Standard deviation per pixel, images being in [0, 1]; the same in all colours."""
    corners: float = 0.0
    """How much darker the corners are."""

    def view(self, draw: np.random.Generator, side: int) -> View:
        """Return the coordinates of one shot."""
        zoom, turn = draw.uniform(*self.zoom), draw.uniform(-self.turn, self.turn)
        dx, dy = draw.uniform(-self.shift, self.shift, 2)
        x, y = frame(side)
        x, y = x - dx, y - dy
        cos, sin = np.cos(turn) / zoom, np.sin(turn) / zoom
        return View(x=cos * x + sin * y, y=cos * y - sin * x, pixel=2 / side / zoom)

    def develop(self, draw: np.random.Generator, image: Field) -> NDArray[np.uint8]:
        """Return the shot of a scene in [0, 1] as 8-bit RGB."""
        side = len(image)
        x, y = frame(side)
        image = image * np.asarray(self.cast)
        image = 0.5 + draw.uniform(*self.contrast) * (image - 0.5)
        image = image * (1 - self.corners * smooth((x**2 + y**2 - 0.7) / 0.7))[:, :, None]
        if self.blur:
            kernel = _gaussian(side, self.blur)
            image = np.einsum("ij,jkc,lk->ilc", kernel, image, kernel, optimize=True)
        image = image.clip(0, 1) ** draw.uniform(*self.gamma)
        image = image + self.noise * draw.standard_normal((side, side, 1))
        return (255 * image).round().clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=8)
def frame(side: int) -> tuple[Field, Field]:
    """Return x and y of the pixel centres, both SS in [-1, 1]."""
    centres = (2 * np.arange(side) + 1) / side - 1
    x, y = np.meshgrid(centres, centres)
    return x, y


def smooth(value: Field) -> Field:
    """Return a soft step from 0 at 0 to 1 at 1."""
    clipped: Field = value.clip(0, 1)
    return clipped * clipped * (3 - 2 * clipped)


def texture(draw: np.random.Generator, side: int, cells: int) -> Field:
    """Return a random field SS of mean 0 and standard deviation near 0.6, smooth over a cell."""
    weights = _interpolation(side, cells)
    field: Field = weights @ draw.standard_normal((cells + 1, cells + 1)) @ weights.T
    return field


def ellipse(view: View, at: Range, radii: Range, turn: float = 0.0) -> Field:
    """Return the distance to an ellipse, scaled to be right near its border."""
    x, y = view.x - at[0], view.y - at[1]
    u = (np.cos(turn) * x + np.sin(turn) * y) / radii[0]
    v = (np.cos(turn) * y - np.sin(turn) * x) / radii[1]
    distance: Field = (np.hypot(u, v) - 1) * min(radii)
    return distance


def cover(distance: Field, width: float) -> Field:
    """Return how much of each pixel a shape covers, falling off over `width` at its border."""
    return (0.5 - distance / width).clip(0, 1)


def paint(image: Field, coverage: Field, colour: NDArray[np.float64] | Field) -> Field:
    """Return the image with a colour, or an image of colours, laid over it."""
    return image + coverage[:, :, None] * (colour - image)


@lru_cache(maxsize=64)
def _interpolation(side: int, cells: int) -> Field:
    """Return the matrix that takes values at cell corners to values at pixel centres."""
    position = (np.arange(side) + 0.5) / side * cells
    left = position.astype(int)
    weight = smooth(position - left)
    matrix = np.zeros((side, cells + 1))
    matrix[np.arange(side), left] = 1 - weight
    matrix[np.arange(side), left + 1] += weight
    return matrix


@lru_cache(maxsize=8)
def _gaussian(side: int, deviation: float) -> Field:
    distance = np.subtract.outer(np.arange(side), np.arange(side)) / (side * deviation)
    kernel: Field = np.exp(-0.5 * distance**2)
    normalised: Field = kernel / kernel.sum(1, keepdims=True)
    return normalised
