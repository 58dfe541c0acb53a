"""What a user said about a dataset of one's own, held against its class list; no NumPy."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from trainables.bounds import FEWEST_EVALUATED
from trainables.config import Augmentation, Metric
from trainables.data.errors import DatasetError
from trainables.data.info import IGNORED
from trainables.data.own.class_list import ClassList, Colour, lines_of
from trainables.data.own.coding import Encoding
from trainables.data.own.description import ImportedDataset, Modality
from trainables.data.own.pairing import plain

FEWEST_TRAINED = 2  # Batch normalisation cannot be trained on one image.


class Said(NamedTuple):
    """What a user said about a dataset beyond where it is."""

    classes: Path
    """Text file with a class per line, the background first."""
    train: Path | None = None
    """Text file with the id of a training image per line."""
    encoding: Encoding | None = None
    """Of the masks; found out from all of them by default."""
    metric: Metric | None = None
    augmentation: Augmentation = "none"
    ignore: tuple[str, ...] = ()
    """Numbers, or colours as `red,green,blue`, that are to be ignored in masks."""
    transparent: str | None = None
    """The class of transparent pixels, or `ignored`."""
    modality: Modality = "photograph"
    any_mask_size: bool = False


def require_agreement(encoding: Encoding, dataset: ImportedDataset, classes: Path) -> None:
    """Raise a DatasetError if the encoding that was named and the class list contradict each other."""
    if encoding == "colours" and not dataset.colours:
        raise DatasetError(f"{classes}: no colours; lines are `name red green blue`")
    if encoding != "colours" and dataset.colours and not dataset.ids:
        raise DatasetError(
            f"{classes}: lists colours, which --encoding {encoding} would not use; remove one of the two"
        )
    if encoding == "binary" and (
        dataset.ids or (len(dataset.classes) > 2 and not dataset.by_class)
    ):
        what = "numbers of classes" if dataset.ids else f"{len(dataset.classes)} classes"
        raise DatasetError(f"{classes}: lists {what}, but --encoding binary is black and white")


def ignored(text: str, listed: ClassList) -> int | Colour:
    """Return a number or colour that is to be ignored.

    Raises:
        DatasetError: if it is neither, or that of a class.
    """
    numbers = re.fullmatch(
        r"(-1|[0-9]{1,9})|([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})", text.strip()
    )
    if not numbers:
        raise DatasetError(
            f"--ignore {text}: must be a number from -1 up, or a colour as red,green,blue"
        )
    if any(int(each or 0) > 255 for each in numbers.groups()[1:]):
        raise DatasetError(f"--ignore {text}: colours go from 0 to 255")
    if numbers[1] is None:
        colour = (int(numbers[2]), int(numbers[3]), int(numbers[4]))
        if colour in listed.colours:
            raise DatasetError(f"--ignore {text}: is the colour of a class in the class list")
        return colour
    number = int(numbers[1])
    ids = () if listed.colours and not listed.ids else listed.ids or range(len(listed.names))
    if number in ids:
        raise DatasetError(
            f"--ignore {text}: is the number of the class `{_named(number, listed)}`"
        )
    return number


def _named(number: int, listed: ClassList) -> str:
    return listed.names[listed.ids.index(number) if listed.ids else number]


def transparent(text: str | None, listed: ClassList) -> int | None:
    """Return the label of transparent pixels; None if nobody said which.

    Raises:
        DatasetError: if there is no such class.
    """
    if text is None:
        return None
    if text in listed.names:
        return listed.names.index(text)
    if text == "ignored":
        return IGNORED
    raise DatasetError(
        f"--transparent {text}: must be `ignored` or a class: {', '.join(listed.names[:8])}"
    )


def train_ids(path: Path, known: Collection[str]) -> tuple[str, ...]:
    """Return the ids that a file lists, all of them known.

    Raises:
        DatasetError: if one is not, or a part of the dataset would have too few images.
    """
    ids = sorted({plain(line) for line in lines_of(path, known=known)})
    unknown = [each for each in ids if each not in known]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise DatasetError(f"{path}: no image has the id {', '.join(unknown[:3])}{more}")
    if not ids or len(ids) == len(known):
        raise DatasetError(f"{path}: names {len(ids)} of {len(known)} images; some must be left")
    if wrong := too_few(len(ids), len(known)):
        raise DatasetError(f"{path}: {wrong}")
    return tuple(ids)


def too_few(train: int, images: int) -> str | None:
    """Return why a set cannot be divided of which so many of its images are for training."""
    if train >= FEWEST_TRAINED and images - train >= FEWEST_EVALUATED:
        return None
    return (
        f"{train} of {images} images to train on, which leaves {images - train}; at least "
        f"{FEWEST_TRAINED} to train on and one each to validate and test are needed"
    )
