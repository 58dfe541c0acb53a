"""What images and masks of one's own mean: telling it from all the files, and decoding masks.

It is told once for a whole dataset and never from a file alone: what the levels of one file mean, the
other files say.

Shape suffixes: H height, W width, C channels, K classes.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.data.errors import BadImageError, DatasetError
from trainables.data.images import (
    FORMATS,
    decode,
    is_deep,
    read_grey,
    read_mask,
    read_npy_labels,
)
from trainables.data.imported import Colour, Encoding
from trainables.data.info import IGNORED

READERS = 4  # Threads; decoding releases the interpreter.
DEPTHS = (8, 10, 12, 14, 16)  # Bits of the converters that fill files of 16 bits.


class _Look(NamedTuple):
    """What one mask looks like from outside."""

    path: Path
    kind: str
    """`npy`, `palette`, `grey` or `colour`."""
    values: frozenset[int]
    """Labels, palette indices or grey levels that occur; empty for colours."""


def tell_encoding(paths: Sequence[Path], *, classes: int, colours: bool) -> Encoding:
    """Return how all these masks are coded; files that cannot be read are left to the reading.

    Raises:
        DatasetError: if masks are of several kinds, coded by colours without a table of them, or by
            grey levels that may mean one thing or another.
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
    ((kind, example),) = kinds.items()
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
    return _by_two_levels(looks) if classes == 2 else _by_ids(looks, classes)


def _by_two_levels(looks: Sequence[_Look]) -> Encoding:
    """Return how grey masks of two classes are coded: 0 and 1, or 0 and 255.

    Raises:
        DatasetError: if it may be either, or is neither.
    """
    by_level = {value: look.path for look in reversed(looks) for value in look.values}
    levels = by_level.keys()
    if levels <= {0, 1} or any({1, IGNORED} <= look.values <= {0, 1, IGNORED} for look in looks):
        if levels <= {0, 1, IGNORED}:
            return "ids"
    elif levels <= {0, 255} or levels <= {0, 65535}:
        return "binary"
    elif levels <= {0, 1, IGNORED}:
        raise DatasetError(
            f"{by_level[1]} has the levels 0 and 1, {by_level[IGNORED]} 0 and 255: name what all "
            "masks have with --encoding, `ids` (0 and 1, 255 ignored) or `binary` (0 and 255)"
        )
    between = next(value for value in sorted(levels) if value not in (0, 1, 255))
    smoothed = (
        "; if the borders were smoothed, --encoding binary takes what is above 127 as inside"
        if {0, 255} <= levels
        else ""
    )
    raise DatasetError(
        f"{by_level[between]}: level {between} in a mask of two classes, which must be coded as 0 "
        f"and 255, or 0 and 1{smoothed}"
    )


def _by_ids(looks: Sequence[_Look], classes: int) -> Encoding:
    """Return `ids` unless most masks have levels that are none, as smoothed ones do.

    Raises:
        DatasetError: if so; a few such files are left to the reading, which names each.
    """
    labels = {*range(classes), IGNORED}
    wrong = [look for look in looks if not look.values <= labels]
    if 2 * len(wrong) <= len(looks):
        return "ids"
    path, values = wrong[0].path, sorted(wrong[0].values - labels)
    raise DatasetError(
        f"{path}: level {values[0]} is none of the {classes} classes, and so in {len(wrong)} of "
        f"{len(looks)} masks; labels must not be scaled to 255, smoothed, or resized by anything but "
        "the nearest pixel"
    )


def tell_white(paths: Sequence[Path]) -> int | None:
    """Return the level that is white in grey images of more than 8 bits; None if there are none.

    The largest level of all of them, rounded up to 8, 10, 12, 14 or 16 bits: files have 16 bits, what
    filled them often fewer.
    """
    with ThreadPoolExecutor(READERS) as pool:
        largest = max(pool.map(_largest_deep_level, paths), default=0)
    if not largest:
        return None
    return next((2**bits - 1 for bits in DEPTHS if largest < 2**bits), None)


def _largest_deep_level(path: Path) -> int:
    """Return the largest level of a grey image of more than 8 bits; 0 for all others."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            deep = is_deep(image)
    except (OSError, ValueError, Image.DecompressionBombError):
        return 0  # Left to the reading.
    with suppress(BadImageError):
        return int(read_grey(path).max()) if deep else 0
    return 0


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
