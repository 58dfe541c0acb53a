"""Telling how masks are coded, from what occurs in all of a dataset together; no NumPy, no files.

A reading is taken only if it explains what occurs and no other that does would give another class.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from trainables.data.errors import DatasetError
from trainables.data.info import IGNORED
from trainables.data.own.class_list import Colour
from trainables.data.own.coding import (
    BLACK,
    HALF_TRANSPARENT,
    MEANS,
    NOT_BLACK_AND_WHITE,
    NOT_IN_PALETTE,
    OPAQUE,
    SETTLE,
    TRANSPARENT,
    WHITE,
    Cell,
    Container,
    Encoding,
    Look,
    Meaning,
    Told,
    holds,
    label_of,
    passes_as_grey,
    shown_level,
)


def tell(looks: Sequence[Look], meaning: Meaning) -> Told:
    """Return how all these masks are coded.

    A few that fit no reading do not change how the others are read; reading them names each.

    Raises:
        DatasetError: if they can be read in two ways, or in none.
    """
    _require_nothing_unclear(looks, meaning)
    if any(look.between is not None for look in looks):
        return _smoothed(looks, meaning)
    container = _container(looks, meaning)
    readings = _candidates(container, looks, meaning)
    if readings == ["colours"]:
        return Told(encoding="colours")
    fitting = {each: [look for look in looks if _fits(each, look, meaning)] for each in readings}
    possible = _possible(fitting, looks, meaning)
    if not possible:
        raise DatasetError(_unexplained(looks, readings, meaning))
    unseen = {each: _unseen(each, fitting[each], meaning) for each in possible}
    if "binary" in possible:
        # White is inside, as everywhere: 255 is ignored only where other labels are seen.
        possible = [each for each in possible if not unseen[each]]
    _require_agreement(possible, fitting, meaning)
    doubts = {each: unseen[each] or _renumbered(each, fitting[each], meaning) for each in possible}
    certain = [each for each in possible if not doubts[each]]
    if not certain:
        raise DatasetError(str(doubts[possible[0]]))
    taken = _preferred(certain, looks)
    return Told(
        encoding=taken,
        others=tuple(each for each in possible if each != taken),
        ignores=any(_ignored_unsaid(taken, look, meaning) for look in fitting[taken]),
        palette=_palette(fitting[taken]) if taken == "palette" else (),
    )


def against(told: Told, look: Look, meaning: Meaning) -> str | None:
    """Return why one mask does not agree with what all were told to be; None if it does."""
    return None if told.smoothed else next(_objections(told, look, meaning), None)


def _objections(told: Told, look: Look, meaning: Meaning) -> Iterator[str]:
    reading = told.encoding
    if look.between is not None or (look.inverted and reading != "colours"):
        yield "is not coded as the other masks are"
    if not holds(reading, look):
        yield f"is of another kind ({look.container}) than the other masks"
    if index := unlisted(look):
        yield index
    labels = {cell: label_of(reading, cell, meaning) for cell in look.cells}
    if None in labels.values():
        return  # Reading it says which value is no class, and where.
    for cell, label in labels.items():
        if any(label_of(other, cell, meaning) not in (None, label) for other in told.others):
            yield f"can be read as {' or '.join((reading, *told.others))}, as the others cannot"
    unseen = _ignored_unsaid(reading, look, meaning) and not _inside(reading, look, meaning)
    if unseen and not told.ignores:
        yield f"has {IGNORED} and no class but the first, as the other masks have not"
    seen = {cell.number: cell.colour for cell in look.cells}
    if told.palette and not seen.items() <= dict(told.palette).items():
        yield "has another palette than the other masks"


def unlisted(look: Look) -> str | None:
    """Return which index of a palette has no colour; None if all have one."""
    if look.container != "palette":
        return None
    numbers = [cell.number for cell in look.cells if cell.colour is None]
    return f"has the index {min(numbers, key=str)}, and {NOT_IN_PALETTE}" if numbers else None


def _require_nothing_unclear(looks: Sequence[Look], meaning: Meaning) -> None:
    """Raise a DatasetError if pixels are transparent, of no colour, or white is 0, and nobody said what
    it means.
    """
    for look in looks:
        if index := unlisted(look):
            raise DatasetError(f"{look.path}: {index}, or --encoding palette takes the index")
        alphas = {cell.alpha for cell in look.cells} - {OPAQUE}
        if alphas - {0}:
            raise DatasetError(f"{look.path}: {HALF_TRANSPARENT}")
        if alphas and meaning.transparent is None:
            raise DatasetError(f"{look.path}: {TRANSPARENT}")
        if look.inverted and not meaning.classes.colours:
            raise DatasetError(
                f"{look.path}: its TIFF stores white as 0, which some programs heed and others do "
                "not; give each class its colour in the class list, or name --encoding, `binary` "
                "(white is inside) or `ids` (what is stored)"
            )


def _smoothed(looks: Sequence[Look], meaning: Meaning) -> Told:
    """Return how masks are read of which compression changed the levels.

    Raises:
        DatasetError: if they are not black and white, or too much is between.
    """
    example = next(look for look in looks if look.between is not None)
    if meaning.white is None or meaning.ignore:
        raise DatasetError(
            f"{example.path}: lossy compression blurs labels; save masks as PNG (only masks of two "
            "classes, black and white, can be told from a JPEG)"
        )
    for look in looks:
        largest = max((shown_level(cell) or 0 for cell in look.cells), default=0)
        if look.container != "grey" or 0 < largest <= IGNORED // 2:
            raise DatasetError(f"{look.path}: {NOT_BLACK_AND_WHITE}")
        if look.between is None and not _black_and_white(look):
            raise DatasetError(f"{look.path}: {NOT_BLACK_AND_WHITE}, as the JPEG files beside it")
    if not any((shown_level(cell) or 0) > IGNORED // 2 for look in looks for cell in look.cells):
        raise DatasetError(
            f"{example.path}: {NOT_BLACK_AND_WHITE}; none of {len(looks)} has any white"
        )
    return Told(encoding="binary", smoothed=True)


def _black_and_white(look: Look) -> bool:
    ends = (0, 255)
    return all(shown_level(cell) in ends and cell.alpha == OPAQUE for cell in look.cells)


def _container(looks: Sequence[Look], meaning: Meaning) -> Container:
    """Return what kind of file all masks are.

    Raises:
        DatasetError: if they are of several between which their meaning would differ.
    """
    kinds = {look.container: look.path for look in reversed(looks)}
    if "array" not in kinds and meaning.classes.colours:
        return "colour"  # A listed colour is one in any file.
    if len(kinds) > 1 and all(passes_as_grey(look) for look in looks):
        return "grey"
    if len(kinds) > 1:
        examples = ", ".join(f"{kind}: {path}" for kind, path in sorted(kinds.items()))
        raise DatasetError(
            f"masks are coded in several ways, name one with --encoding: {examples}"
        )
    return next(iter(kinds))


def _candidates(container: Container, looks: Sequence[Look], meaning: Meaning) -> list[Encoding]:
    """Return the readings that masks of a kind may have, the likeliest first.

    Raises:
        DatasetError: if there is none.
    """
    listed, path = meaning.classes, looks[0].path
    if listed.colours and not listed.ids:
        if container == "array":
            raise DatasetError(
                f"{path}: arrays hold numbers and no colours; take the colours from the class list, "
                "or write the number of each class before its name"
            )
        return ["colours"]
    if container == "colour" and not listed.colours:
        raise DatasetError(
            f"{path}: masks are coded by colours; give each class its own in the class list, "
            "as `name red green blue`"
        )
    numbers: dict[Container, list[Encoding]] = {
        "array": ["npy"],
        "palette": ["palette", "levels"],
        "grey": ["ids", "levels"],
        "colour": [],
    }
    found: list[Encoding] = []
    for kind in {look.container: None for look in looks}:
        found += [each for each in numbers[kind] if each not in found]
    if container == "grey" and "palette" in found:
        found.remove("palette")
    if listed.colours and container != "array":
        found.append("colours")
    if meaning.two and not listed.ids and container != "colour":
        found.append("binary")
    return found


def _possible(
    fitting: Mapping[Encoding, Sequence[Look]], looks: Sequence[Look], meaning: Meaning
) -> list[Encoding]:
    """Return the readings that explain all masks; of more than two classes, or at least half."""
    whole = [each for each, fits in fitting.items() if len(fits) == len(looks)]
    if whole or meaning.two:
        return whole
    return [each for each, fits in fitting.items() if 2 * len(fits) >= len(looks)]


def _fits(reading: Encoding, look: Look, meaning: Meaning) -> bool:
    return all(label_of(reading, cell, meaning) is not None for cell in look.cells)


def _ignored_unsaid(reading: Encoding, look: Look, meaning: Meaning) -> bool:
    """Whether a mask has pixels of 255 that are ignored though nobody said so."""
    return any(
        label_of(reading, cell, meaning) == IGNORED
        and IGNORED not in meaning.ignore
        and IGNORED in (cell.number, shown_level(cell))
        for cell in look.cells
        if reading not in ("binary", "colours") and cell.alpha == OPAQUE
    )


def _inside(reading: Encoding, look: Look, meaning: Meaning) -> bool:
    """Whether a mask has pixels of another class than the first."""
    return any(label_of(reading, cell, meaning) not in (0, IGNORED) for cell in look.cells)


def _unseen(reading: Encoding, looks: Sequence[Look], meaning: Meaning) -> str | None:
    """Return why 255 may be a class and not ignored; None if what else occurs says that it is not."""
    ignoring = [look for look in looks if _ignored_unsaid(reading, look, meaning)]
    inside = [look for look in looks if _inside(reading, look, meaning)]
    if not ignoring or (inside and not meaning.two) or any(each in inside for each in ignoring):
        return None
    first = ignoring[0].path
    if inside:
        return (
            f"{inside[0].path} has the levels 0 and 1, {first} 0 and 255: name what all masks have "
            "with --encoding, `ids` (0 and 1, 255 ignored) or `binary` (0 and 255)"
        )
    return (
        f"{first}: 255 is the only value beside the first class, in all masks; if it is a class, "
        "write its number before its name in the class list (`255 name`); if it is to be ignored, "
        "--ignore 255"
    )


def _renumbered(reading: Encoding, looks: Sequence[Look], meaning: Meaning) -> str | None:
    """Return why indices of palettes may not be the classes; None if nothing speaks against it."""
    if reading != "palette":
        return None
    for look in looks:
        if look.renumbers:
            return (
                f"{look.path}: programs that write GIF number its colours as they like; {SETTLE}"
            )
    shown: dict[int | None, Colour | None] = {}
    for look in looks:
        for cell in sorted(look.cells, key=str):
            known = shown.setdefault(cell.number, cell.colour)
            if known != cell.colour:
                return (
                    f"{look.path}: index {cell.number} is {cell.colour}, in other masks {known}; "
                    f"{SETTLE}"
                )
            label = label_of(reading, cell, meaning)
            if cell.colour == BLACK and label not in (0, IGNORED) and shown.get(0) != BLACK:
                return f"{look.path}: black is index {cell.number} and not the first; {SETTLE}"
    return None


def _palette(looks: Sequence[Look]) -> tuple[tuple[int, Colour], ...]:
    cells = {cell for look in looks for cell in look.cells}
    shown = [(each.number, each.colour) for each in cells]
    return tuple(sorted((n, c) for n, c in shown if n is not None and c is not None))


def _require_agreement(
    readings: Sequence[Encoding], fitting: Mapping[Encoding, Sequence[Look]], meaning: Meaning
) -> None:
    """Raise a DatasetError if two readings give a value different classes."""
    for first, second in combinations(readings, 2):
        for look in fitting[first]:
            for cell in sorted(look.cells, key=str):
                one, other = label_of(first, cell, meaning), label_of(second, cell, meaning)
                if other is not None and one != other:
                    raise DatasetError(
                        f"{look.path}: {_described(cell)} can be {_class(one, meaning)} "
                        f"({first}: {MEANS[first]}) or {_class(other, meaning)} ({second}: "
                        f"{MEANS[second]}); name one with --encoding, or give each class its colour "
                        "in the class list"
                    )


def _class(label: int | None, meaning: Meaning) -> str:
    assert label is not None, "only asked of what fits"
    return "ignored" if label == IGNORED else f"`{meaning.classes.names[label]}`"


def _described(cell: Cell) -> str:
    shown = "" if cell.colour is None else f"the colour {cell.colour}"
    number = "" if cell.number is None else f"the number {cell.number}"
    return " with ".join(filter(None, (number, shown)))


def _preferred(readings: Sequence[Encoding], looks: Sequence[Look]) -> Encoding:
    """Return the reading that says best what is there; all give the same classes."""
    if "binary" in readings and any(c.colour == WHITE for look in looks for c in look.cells):
        return "binary"
    return readings[0]


def _unexplained(looks: Sequence[Look], readings: Sequence[Encoding], meaning: Meaning) -> str:
    """Return what is wrong with masks that no reading explains."""
    if meaning.two and not meaning.classes.ids:
        by_level = {
            shown_level(cell): look.path for look in reversed(looks) for cell in look.cells
        }
        numbers = {cell.number: look.path for look in reversed(looks) for cell in look.cells}
        shown = by_level if None not in by_level else numbers
        strange = sorted(each for each in shown if each not in (None, 0, 1, 255))
        smooth = {0, 255} <= shown.keys()
        hint = (
            "; if the borders were smoothed, --encoding binary takes what is above 127 as inside"
        )
        if strange:
            return (
                f"{shown[strange[0]]}: level {strange[0]} in a mask of two classes, which must be "
                f"coded as 0 and 255, or 0 and 1{hint if smooth else ''}"
            )
    reading = readings[0]
    wrong = [look for look in looks if not _fits(reading, look, meaning)]
    first = wrong[0]
    cell = min((c for c in first.cells if label_of(reading, c, meaning) is None), key=str)
    listed = f" ({', '.join(map(str, meaning.ids))})" if meaning.classes.ids else ""
    return (
        f"{first.path}: {'level' if first.container == 'grey' else 'value'} "
        f"{shown_level(cell) if cell.number is None else cell.number} is none of the "
        f"{len(meaning.classes.names)} classes{listed}, and so in {len(wrong)} of {len(looks)} masks; "
        "labels must not be scaled to 255, smoothed, or resized by anything but the nearest pixel; "
        "numbers of classes can be listed before their names, and --ignore says what is none"
    )
