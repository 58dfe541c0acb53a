"""What a value of a mask means under each reading; no NumPy, no files.

A mask shows a colour at each pixel, and may hold a number behind it: a grey level, the index of a
palette, an integer of an array. A *reading* turns such a value into a class.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import Field

from trainables.bounds import UINT32_MAX, Byte
from trainables.config import Frozen
from trainables.data.info import IGNORED
from trainables.data.own.class_list import ClassList, Colour

Encoding = Literal["binary", "ids", "levels", "palette", "colours", "npy"]
"""How masks say which class a pixel has: black and white; the grey level that the file stores; the
grey level that it shows; the index of a palette; a colour of the class list; integers of an array."""

ENCODINGS = get_args(Encoding)
ARRAY_IGNORED = -1
Value = Annotated[int, Field(ge=ARRAY_IGNORED, le=UINT32_MAX)]
"""A number in a mask; -1 is what arrays have for ignored pixels."""
Container = Literal["array", "palette", "grey", "colour"]
NUMBERS: Mapping[Encoding, Container] = {"npy": "array", "palette": "palette", "ids": "grey"}
"""The readings that take the number behind a pixel, by what they take it from."""
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
OPAQUE = 255
MEANS: Mapping[Encoding, str] = {
    "binary": "black is outside, white inside",
    "ids": "the level that is stored",
    "levels": "the level that is shown",
    "palette": "the index of the palette",
    "colours": "the colours of the class list",
    "npy": "the integers of the array",
}
TRANSPARENT = (
    "has transparent pixels, and nothing says of which class they are; name it with --transparent, or "
    "save masks without transparency"
)
HALF_TRANSPARENT = "has half-transparent pixels, which are of no class; save masks without"
NOT_IN_PALETTE = "its palette has no colour for it; save it with the whole palette"
SETTLE = "--encoding palette takes the index, colours in the class list what is shown"
NOT_BLACK_AND_WHITE = "is not black and white, the only masks that lossy files can hold"


class Cell(NamedTuple):
    """One value of a pixel."""

    number: int | None
    """As the file stores it; None where it stores a colour."""
    colour: Colour | None
    """As it is shown; None where nothing says which, as for an array."""
    alpha: int = OPAQUE


class Look(NamedTuple):
    """What one mask looks like from outside."""

    path: Path
    container: Container
    cells: frozenset[Cell]
    """All values that occur."""
    renumbers: bool = False
    """Whether its format is one whose palettes programs number as they like, as they do for GIF."""
    inverted: bool = False
    """Whether it stores white as 0, which some programs heed and others do not."""
    between: int | None = None
    """Pixels in the middle between black and white, of a file whose compression changes levels; None
    of all others."""
    pixels: int = 0
    """How many there are, of such a file."""


class Meaning(NamedTuple):
    """What a user said about masks."""

    classes: ClassList
    ignore: tuple[int | Colour, ...] = ()
    """Numbers, levels or colours that are no class and to be ignored."""
    transparent: int | None = None
    """Label of transparent pixels."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The numbers of the classes, by label."""
        return self.classes.ids or tuple(range(len(self.classes.names)))

    @property
    def two(self) -> bool:
        """Whether there are two classes only."""
        return len(self.classes.names) == 2

    @property
    def white(self) -> int | None:
        """Label of white where black is the other class; None if these are not the two classes."""
        listed: Sequence[int | Colour] = self.classes.colours or self.classes.ids
        if not self.two or not listed:
            return 1 if self.two else None
        ends = (BLACK, WHITE) if self.classes.colours else (0, 255)
        return listed.index(ends[1]) if set(listed) == set(ends) else None


def shown_level(cell: Cell) -> int | None:
    """Return the grey level that is shown; of an array, its number. None of a colour."""
    if cell.colour is None:
        return cell.number
    red, green, blue = cell.colour
    return red if red == green == blue else None


class Told(Frozen):
    """What was decided from all masks of a dataset, and what each file is held against."""

    encoding: Encoding
    others: tuple[Encoding, ...] = ()
    """Readings that would have given the same classes: no file may tell them apart."""
    ignores: bool = False
    """Whether 255 was seen to stand for ignored pixels."""
    palette: tuple[tuple[Byte, Colour], ...] = ()
    """The colours of the indices, where these are the classes."""
    smoothed: bool = False
    """Whether what is above 127 is inside, since compression changed the levels."""


def label_of(reading: Encoding, cell: Cell, meaning: Meaning) -> int | None:
    """Return the label of a value, 255 where it is ignored; None if it is no class."""
    if cell.alpha != OPAQUE and (meaning.transparent is not None or reading != "palette"):
        return meaning.transparent if cell.alpha == 0 else None
    if reading == "colours":
        known: Sequence[int | Colour] = meaning.classes.colours
        value: int | Colour | None = cell.colour
    else:
        known = (0, 255) if reading == "binary" else meaning.ids
        value = cell.number if reading in NUMBERS else shown_level(cell)
    if value is None:
        return None
    if value in meaning.ignore or (cell.colour is not None and cell.colour in meaning.ignore):
        return IGNORED
    if value in known:
        return known.index(value)
    return IGNORED if _is_ignored_unsaid(reading, value) else None


def _is_ignored_unsaid(reading: Encoding, value: int | Colour) -> bool:
    """Whether a number that is no class is ignored without anybody having said so."""
    if reading in ("binary", "colours"):
        return False
    return value == IGNORED or (reading == "npy" and value == ARRAY_IGNORED)


def passes_as_grey(look: Look) -> bool:
    """Whether the numbers of a mask are grey levels, or indices that are the levels they show."""
    identity = all(shown_level(each) == each.number for each in look.cells)
    return look.container == "grey" or (look.container == "palette" and identity)


def holds(reading: Encoding, look: Look) -> bool:
    """Whether a mask has what a reading takes, if it takes the number behind a pixel."""
    wanted = NUMBERS.get(reading)
    return wanted in (None, look.container) or (wanted == "grey" and passes_as_grey(look))
