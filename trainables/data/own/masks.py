"""Opening mask files of any kind: the values that occur in one, and from these its labels.

Shape suffixes: H height, W width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.data.errors import BadImageError
from trainables.data.files.arrays import load_array
from trainables.data.files.decoded import Decoded, is_deep
from trainables.data.files.images import OWN_FORMATS, decode_with_format
from trainables.data.later_labels import LaterLabels
from trainables.data.own.coding import OPAQUE, Cell, Container, Look

MOST_COLOURS = 4096  # In one mask; more are a photograph.
DEEP_WHITE = 65535
MIDDLE = (64, 191)  # Levels that are neither black nor white after lossy compression.
GREYISH = 48  # Most that the channels of a grey pixel differ by after it.
TIFF_COMPRESSION = 259
TIFF_LOSSY = (6, 7, 34892, 50001)

Values = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask file: its values, coded by integers, and what each code stands for."""

    look: Look
    stored: Values
    """Codes, HW; or the channels of a pixel, HWC, which make up its code."""
    cells: Mapping[int, Cell]
    """All that occur, by code."""

    def labels(self, label_of: Callable[[Cell], int | None], classes: str = "") -> LaterLabels:
        """Return the label map, of which each pixel is made when it is asked for.

        Args:
            classes: what the numbers of classes are, in words; empty where colours are theirs.

        Raises:
            BadImageError: if a value is no class, with one place of it.
        """
        labels = {}
        for code, cell in self.cells.items():
            label = label_of(cell)
            if label is None:
                raise BadImageError(f"{self.look.path}: {self._unknown(code, classes)}")
            labels[code] = label
        return LaterLabels(self.stored, lambda stored: _mapped(_codes(stored), labels))

    def _unknown(self, code: int, classes: str) -> str:
        """Say that the value of a code is no class, where it is first, and how often it is."""
        cell, where_HW = self.cells[code], _codes(self.stored) == code
        row, column = (int(i) for i in np.unravel_index(int(where_HW.argmax()), where_HW.shape))
        clear = " (transparent)" if cell.alpha != OPAQUE else ""
        place, pixels = f"at column {column}, row {row}", int(where_HW.sum())
        if cell.number is None or not classes:
            return f"the colour {cell.colour}{clear} {place} is no class ({pixels} such pixels)"
        return f"label {cell.number}{clear}, but the {classes} ({place}; {pixels} such pixels)"


def _codes(stored: Values) -> Values:
    """Return codes_HW."""
    if stored.ndim == 2:
        return stored
    codes_HW = stored[..., 0].astype(np.uint32)
    for i in range(1, stored.shape[2]):
        codes_HW |= stored[..., i].astype(np.uint32) << np.uint32(8 * i)
    return codes_HW


def _mapped(codes_HW: Values, labels: Mapping[int, int]) -> NDArray[np.uint8]:
    """Return the label of each code."""
    if codes_HW.dtype == np.uint8 and all(code == label for code, label in labels.items()):
        return codes_HW.astype(np.uint8, copy=False)
    known = np.array(sorted(labels), np.int64)
    values = np.array([labels[code] for code in known.tolist()], np.uint8)
    if codes_HW.dtype == np.uint8:
        table = np.zeros(256, np.uint8)
        table[known] = values
        return table[codes_HW]
    # As wide integers: a difference of narrow ones may wrap around, and a negative one be no index.
    return values[np.searchsorted(known, codes_HW.astype(np.int64))]


def open_mask(path: Path) -> Mask:
    """Return the values of a mask.

    Raises:
        BadImageError: if the file cannot be read, or cannot be a mask.
    """
    if path.suffix.lower() == ".npy":
        return _of_array(path)
    decoded = decode_with_format(path, OWN_FORMATS)
    image = decoded.image
    if _is_lossy(path, decoded):
        return _of_lossy(path, image)
    if image.mode == "P":
        return _of_palette(path, decoded)
    if image.mode in ("1", "L") or is_deep(image):
        return _of_grey(path, decoded)
    if image.mode in ("LA", "PA", "RGB", "RGBA"):
        return _of_colour(path, image)
    raise BadImageError(f"{path}: masks of mode {image.mode} are not read; save it as PNG")


def _of_array(path: Path) -> Mask:
    numbers_HW = load_array(path)
    if numbers_HW.dtype == np.bool_:
        numbers_HW = numbers_HW.astype(np.uint8)
    if numbers_HW.dtype.kind not in "iu":  # A time is an integer to NumPy, too.
        raise BadImageError(f"{path}: {numbers_HW.dtype}, a label map has integers")
    return _mask(path, "array", numbers_HW, lambda number: Cell(number, None))


def _of_palette(path: Path, decoded: Decoded) -> Mask:
    image = decoded.image
    palette = image.getpalette("RGB") or []
    clear = image.info.get("transparency")
    alphas = {clear: 0} if isinstance(clear, int) else dict(enumerate(clear or b""))
    if image.palette is not None and image.palette.mode == "RGBA":
        alphas = dict(enumerate((image.getpalette("RGBA") or [])[3::4]))

    def cell(index: int) -> Cell:
        entry = palette[3 * index : 3 * index + 3]
        shown = (entry[0], entry[1], entry[2]) if len(entry) == 3 else None
        return Cell(index, shown, alphas.get(index, OPAQUE))

    renumbers = decoded.format == "GIF"
    return _mask(path, "palette", np.asarray(image), cell, renumbers=renumbers)


def _of_grey(path: Path, decoded: Decoded) -> Mask:
    image, inverted, clear = decoded.image, decoded.inverted, decoded.clear
    levels_HW: Values = np.asarray(image if image.mode != "1" else image.convert("L"))
    if is_deep(image):
        levels_HW = levels_HW.astype(levels_HW.dtype.newbyteorder("="))
        return _of_deep(path, levels_HW, clear, inverted=inverted)

    def cell(level: int) -> Cell:
        number = (255 - level if inverted else level) // decoded.step
        return Cell(number, (level, level, level), 0 if level == clear else OPAQUE)

    return _mask(path, "grey", levels_HW, cell, inverted=inverted)


def _of_deep(path: Path, levels_HW: Values, clear: object, *, inverted: bool) -> Mask:
    """Return a mask of more than 8 bits: white is 255 or 65535, as all of its levels say.

    Where white is stored as 0, what is shown is known of levels that were scaled to 16 bits.
    """
    values = np.unique(levels_HW)
    scale = 257 if inverted or values[-1] > 255 else 1
    known = not (values % scale).any() and values[0] >= 0 and values[-1] <= DEEP_WHITE

    def cell(level: int) -> Cell:
        shown = (DEEP_WHITE - level if inverted else level) // scale if known else None
        colour = None if shown is None else (shown, shown, shown)
        return Cell(level, colour, 0 if level == clear else OPAQUE)

    return _mask(path, "grey", levels_HW, cell, inverted=inverted)


def _of_colour(path: Path, image: Image.Image) -> Mask:
    if image.mode == "PA":
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA") and image.getchannel("A").getextrema() == (OPAQUE, OPAQUE):
        image = image.convert("L" if image.mode == "LA" else "RGB")
    if image.mode == "L":
        return _mask(path, "grey", np.asarray(image), lambda level: Cell(level, (level,) * 3))
    clear = image.info.get("transparency")
    occurring = image.getcolors(MOST_COLOURS)
    if occurring is None:
        raise BadImageError(f"{path}: more than {MOST_COLOURS:,} colours, which is no mask")
    cells = {_code(pixel): _shown(pixel, clear) for _, pixel in occurring}  # type: ignore[arg-type]
    grey = all(cell.colour is not None and len(set(cell.colour)) == 1 for cell in cells.values())
    if grey:  # Stored as a level, if in several channels.
        cells = {
            code: cell._replace(number=(cell.colour or (0,))[0]) for code, cell in cells.items()
        }
    look = Look(path, "grey" if grey else "colour", frozenset(cells.values()))
    return Mask(look, np.asarray(image), cells)


def _code(pixel: tuple[int, ...]) -> int:
    return sum(value << 8 * i for i, value in enumerate(pixel))


def _shown(pixel: tuple[int, ...], clear: object) -> Cell:
    """Return the value of a pixel of a colour image, of which one colour may be transparent."""
    alpha = pixel[-1] if len(pixel) in (2, 4) else 0 if pixel == clear else OPAQUE
    colour = (pixel[0],) * 3 if len(pixel) == 2 else (pixel[0], pixel[1], pixel[2])
    return Cell(None, colour, alpha)


def _of_lossy(path: Path, image: Image.Image) -> Mask:
    """Return a mask whose levels were changed by compression, grey if it is nearly so."""
    if image.mode not in ("1", "L"):
        channels_HWC = np.asarray(image.convert("RGB")).astype(np.int16)
        if np.ptp(channels_HWC, axis=2).max() > GREYISH:
            look = Look(path, "colour", frozenset(), between=0)
            return Mask(look, np.zeros((1, 1), np.uint8), {})
    levels_HW = np.asarray(image.convert("L"))
    between = int(((levels_HW >= MIDDLE[0]) & (levels_HW <= MIDDLE[1])).sum())
    return _mask(path, "grey", levels_HW, lambda level: Cell(level, (level,) * 3), between=between)


def _is_lossy(path: Path, decoded: Decoded) -> bool:
    if decoded.format == "WEBP":
        return b"VP8 " in _chunks(path)
    if decoded.format == "TIFF":
        return decoded.tags.get(TIFF_COMPRESSION) in TIFF_LOSSY
    return decoded.format in ("JPEG", "MPO")


def _chunks(path: Path) -> set[bytes]:
    """Return the kinds of chunks in a WebP file."""
    kinds, content, place = set(), path.read_bytes(), 12
    while place + 8 <= len(content):
        kinds.add(content[place : place + 4])
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return kinds


def _mask(
    path: Path,
    container: Container,
    codes_HW: Values,
    cell_of: Callable[[int], Cell],
    *,
    renumbers: bool = False,
    inverted: bool = False,
    between: int | None = None,
) -> Mask:
    if codes_HW.dtype == np.uint8:
        # Pillow counts bytes several times as fast as NumPy.
        counts = Image.fromarray(np.ascontiguousarray(codes_HW)).histogram()
        occurring = [code for code, count in enumerate(counts) if count]
    else:
        occurring = np.unique(codes_HW).tolist()
    if len(occurring) > MOST_COLOURS:
        raise BadImageError(f"{path}: more than {MOST_COLOURS:,} levels, which is no mask")
    cells = {int(code): cell_of(int(code)) for code in occurring}
    look = Look(path, container, frozenset(cells.values()), renumbers, inverted)
    if between is not None:
        look = look._replace(between=between, pixels=codes_HW.size)
    return Mask(look, codes_HW, cells)
