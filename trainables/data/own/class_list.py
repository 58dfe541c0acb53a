"""The class list of a dataset of one's own: names, and by what masks say each class."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from trainables.bounds import UINT32_MAX, Byte
from trainables.data.errors import DatasetError
from trainables.user_text import UserTextError, read_user_text

MOST_CLASSES = 255
ID = r"([0-9]+)[\s,;:=]+(\S.*)"
BETWEEN = r"[\s,;]+"
COLOURED = (
    rf"(.+?)[\s,;:=]+(?:rgb)?[(\[]?\s*([0-9]+){BETWEEN}([0-9]+){BETWEEN}([0-9]+)\s*[)\]]?"
    r"|(.+?)[\s,;:=]+#([0-9a-fA-F]{6})"
)
LIKE_A_COLOUR = r".*(#[0-9a-fA-F]{3}|(\b[0-9.]+[\s,;]+){2}[0-9.]+\W*$)"
"""What a name has that is no name, and would leave a colour unheeded."""
OUTSIDE = ("background", "bg", "_background_")
COLOUR_FIRST = r"[0-9]+[\s,;]+[0-9]+[\s,;]+\D.*"  # What follows an id: green, blue, name.
ID_LAST = r"(.*\D)[\s,;:=]+([0-9]+)"
FORMS = (
    "lines are `name`, `id name`, `name red green blue` or `id name red green blue`; colours go from 0 to 255, "
    "or are `#rrggbb`"
)

Colour = tuple[Byte, Byte, Byte]


class ClassList(NamedTuple):
    """Classes by label, the background first."""

    names: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    """Of each class, where they are listed."""
    ids: tuple[int, ...] = ()
    """By which masks call each class, where they are listed; else they are the labels."""


def read_classes(path: Path) -> ClassList:
    """Return what a class list says.

    A line is a name; with the id before it by which masks call the class, or with its colour after
    it, or both. What one line has, all must have.

    Raises:
        DatasetError: if it cannot be read, has fewer than two classes or the same one twice, or
            ids or colours for some classes only.
    """
    rows = lines_of(path)
    given = [match for match in (re.fullmatch(ID, row) for row in rows) if match]
    _require_all_or_none(path, "an id", len(given), len(rows))
    ids = tuple(_number(path, match[0], match[1], UINT32_MAX, "numbers") for match in given)
    names, colours = [], []
    for row in (match[2] for match in given) if given else rows:
        match = re.fullmatch(COLOURED, row)
        names.append((match[1] or match[5]) if match else row)
        if match:
            colours.append(_colour(path, row, match))
    if not 2 <= len(names) <= MOST_CLASSES:
        raise DatasetError(f"{path}: {len(names)} classes; 2 to {MOST_CLASSES}, background first")
    for what, values in (("class", names), ("colour", colours), ("id", ids)):
        doubled = next((value for value in values if values.count(value) > 1), None)  # type: ignore[arg-type]
        if doubled is not None:
            raise DatasetError(f"{path}: the {what} {doubled} is there twice")
    _require_all_or_none(path, "a colour", len(colours), len(names))
    _require_order(path, names, with_ids=bool(ids))
    _require_names(path, names)
    return ClassList(tuple(names), tuple(colours), ids)


def _colour(path: Path, row: str, match: re.Match[str]) -> Colour:
    if match[6]:
        red, green, blue = bytes.fromhex(match[6])
    else:
        red, green, blue = (_number(path, row, match[i], 255, "colours") for i in (2, 3, 4))
    return red, green, blue


def _require_names(path: Path, names: list[str]) -> None:
    """Raise a DatasetError if a name holds a colour that was not understood, or the background is not first.

    Black is outside, and scores of two classes are those of the second.
    """
    strange = next((name for name in names if re.match(LIKE_A_COLOUR, name)), None)
    if strange is not None:
        raise DatasetError(f"{path}: `{strange}` seems to have a colour; {FORMS}")
    late = next((name for name in names[1:] if name.lower() in OUTSIDE), None)
    if late is not None:
        raise DatasetError(
            f"{path}: `{late}` is not the first class, as the background must be; its number or colour, "
            "written beside it, says what masks call it"
        )


def _require_order(path: Path, names: list[str], *, with_ids: bool) -> None:
    """Raise a DatasetError if lines seem to have a colour before the name, or a number after it.

    Taken for names, they would give masks other classes. `grade 1`, `grade 3` are names.
    """
    if with_ids and all(re.fullmatch(COLOUR_FIRST, name) for name in names):
        raise DatasetError(f"{path}: has colours before the names; {FORMS}")
    last = [match for match in (re.fullmatch(ID_LAST, name) for name in names) if match]
    numbers = [int(match[2]) for match in last]
    stems = {match[1] for match in last}
    if with_ids or len(stems) < len(names) or numbers == list(range(len(names))):
        return
    raise DatasetError(f"{path}: has numbers after the names, as in `{names[-1]}`; {FORMS}")


def lines_of(path: Path, *, known: Collection[str] = ()) -> list[str]:
    """Return the lines of a text file without comments and empty ones.

    Args:
        known: lines that are no comments though they begin like one.

    Raises:
        DatasetError: if it cannot be read.
    """
    try:
        text = read_user_text(path)
    except UserTextError as error:
        raise DatasetError(f"{path} is {error}") from error
    except OSError as error:
        raise DatasetError(f"{path}: not a readable text file: {error}") from error
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line in known or (line and not line.startswith("#"))]


def _number(path: Path, row: str, digits: str, largest: int, what: str) -> int:
    if len(digits.lstrip("0")) > len(str(largest)) or int(digits) > largest:
        raise DatasetError(f"{path}: `{row}`: {what} go from 0 to {largest}")
    return int(digits)


def _require_all_or_none(path: Path, what: str, count: int, classes: int) -> None:
    if count not in (0, classes):
        raise DatasetError(f"{path}: {count} of {classes} classes have {what}, not all; {FORMS}")
