"""How masks of one's own say which class a pixel has: telling it from the files, and decoding.

Shape suffixes: H height, W width, C channels, K classes.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.data.errors import BadImageError, DatasetError
from trainables.data.images import decode, read_grey, read_mask, read_npy_labels
from trainables.data.imported import Colour, Encoding
from trainables.data.info import IGNORED

READERS = 4  # Threads; decoding releases the interpreter.


class _Look(NamedTuple):
    """What one mask looks like from outside."""

    path: Path
    kind: str
    """`npy`, `palette`, `grey` or `colour`."""
    values: frozenset[int]
    """Labels, palette indices or grey levels that occur; empty for colours."""


def tell_encoding(paths: Sequence[Path], *, classes: int, colours: bool) -> Encoding:
    """Return how all these masks are coded; files that cannot be read are left to the reading.

    Grey masks of two classes with two levels are `binary` unless the levels are 0 and 1.

    Raises:
        DatasetError: if masks are of several kinds, or coded by colours without a table of them.
    """
    with ThreadPoolExecutor(READERS) as pool:
        looks = [look for look in pool.map(_look, paths) if look]
    kinds = {look.kind: look.path for look in looks}
    if not kinds:
        raise DatasetError(f"{paths[0].parent}: none of {len(paths)} masks can be read")
    if len(kinds) > 1:
        examples = ", ".join(f"{kind}: {path}" for kind, path in sorted(kinds.items()))
        raise DatasetError(
            f"masks are coded in several ways, name one with --encoding: {examples}"
        )
    (kind, example), values = (
        next(iter(kinds.items())),
        frozenset().union(*(k.values for k in looks)),
    )
    if kind == "npy":
        return "npy"
    if colours and kind != "grey":
        return "colours"
    if kind == "colour":
        raise DatasetError(
            f"{example}: masks are coded by colours; give each class its own in the class list, "
            "as `name red green blue`"
        )
    if kind == "palette":
        return "palette"
    two_levels = len(values) <= 2 and not values <= {0, 1}
    return "binary" if classes == 2 and two_levels else "ids"


def decode_mask(path: Path, encoding: Encoding, colours: Sequence[Colour]) -> NDArray[np.uint8]:
    """Return labels_HW, not yet held against the number of classes.

    Raises:
        BadImageError: if the file cannot be read, is of another kind, or has a colour that is no
            class.
    """
    if encoding == "npy":
        return read_npy_labels(path)
    if encoding == "binary":
        return read_mask(path).astype(np.uint8)
    if encoding == "colours":
        return _from_colours(path, colours)
    if encoding == "palette":
        image = decode(path)
        if image.mode != "P":
            raise BadImageError(f"{path}: has no palette ({image.mode})")
        return np.asarray(image)
    levels_HW = read_grey(path)
    if levels_HW.max() > IGNORED:
        raise BadImageError(f"{path}: label {levels_HW.max()}, above 255")
    return levels_HW.astype(np.uint8)


def _look(path: Path) -> _Look | None:
    try:
        if path.suffix.lower() == ".npy":
            return _Look(path, "npy", frozenset())
        image = decode(path)
        if image.mode == "P":
            return _Look(path, "palette", frozenset())
        array = np.asarray(image.convert("RGB") if image.mode in ("RGBA", "CMYK") else image)
        if array.ndim == 3 and (array != array[..., :1]).any():
            return _Look(path, "colour", frozenset())
        return _Look(path, "grey", frozenset(np.unique(read_grey(path)).tolist()))
    except BadImageError:
        return None


def _from_colours(path: Path, colours: Sequence[Colour]) -> NDArray[np.uint8]:
    rgb_HWC = np.asarray(decode(path).convert("RGB")).astype(np.int32)
    code_HW = (rgb_HWC[..., 0] << 16) + (rgb_HWC[..., 1] << 8) + rgb_HWC[..., 2]
    labels_HW = np.full(code_HW.shape, -1, np.int16)
    for label, (red, green, blue) in enumerate(colours):
        labels_HW[code_HW == (red << 16) + (green << 8) + blue] = label
    unknown = (labels_HW < 0).nonzero()
    if len(unknown[0]):
        row, column = int(unknown[0][0]), int(unknown[1][0])
        raise BadImageError(
            f"{path}: the colour {tuple(rgb_HWC[row, column].tolist())} at column {column}, row {row} "
            f"is no class ({len(unknown[0])} such pixels)"
        )
    return labels_HW.astype(np.uint8)
