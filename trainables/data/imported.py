"""Datasets of your own: a folder of images, a folder of masks, a list of classes.

What `hdsweep data import` was told lies in the home folder as `datasets/<name>.json`; from then on
the dataset is known by its name like any other, and prepared for any side from the same folders.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import ValidationError

from trainables.bounds import Byte, ImagesOrNone, Level
from trainables.config import Augmentation, Frozen, Metric
from trainables.data.errors import BadReleaseError, DatasetError, DatasetLayoutError
from trainables.data.info import CROP_MARGIN, DatasetInfo, Entry, Found
from trainables.data.release import unpaired, walk
from trainables.user_text import UserTextError, read_user_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Encoding = Literal["binary", "ids", "palette", "colours", "npy"]
"""How masks say which class a pixel has: 0 and 255; the class id as grey level; as the index of a
palette; by a colour of the class list; or as integers of a NumPy file."""

ENCODINGS = get_args(Encoding)
IMAGES = (".png", ".jpg", ".jpeg", ".bmp")
MASKS = (".png", ".bmp", ".npy")
UNREAD = (
    ".tif",
    ".tiff",
    ".gif",
    ".webp",
    ".jp2",
    ".heic",
    ".dcm",
    ".nii",
    ".gz",
    ".mha",
    ".nrrd",
)
"""What images and masks come as too, and what is not read."""
JPEG = (".jpg", ".jpeg")
SUFFIXES = ("_mask", "_segmentation", "_labels", "_label", "_gt")
"""What masks may be called beyond the name of their image."""
NAME = r"[a-z][a-z0-9_]*"
MOST_CLASSES = 255
READING = 2  # Raised when the same files are read as other pixels. 1 took labels at corners.

Colour = tuple[Byte, Byte, Byte]


class ImportedDataset(Frozen):
    """What one was told about a dataset."""

    name: str
    images: str
    """Folder, absolute."""
    masks: str
    classes: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    """Colour of each class in the masks, where they are coded so."""
    encoding: Encoding
    train: tuple[str, ...] = ()
    """Ids to train on, all others being for validation and test; empty leaves it to the split."""
    metric: Metric
    augmentation: Augmentation = "none"
    expected: ImagesOrNone
    """Images with a mask when it was imported."""
    white: Level | None = None
    """Level that is white in grey images of more than 8 bits; None if there are none."""

    def info(self) -> DatasetInfo:
        """Return what every dataset has: how to find and read it."""
        # Without what is not there, so that a field that is new leaves older descriptions as they are.
        told = self.model_dump_json(exclude={"white"} if self.white is None else None)
        digest = hashlib.sha256(f"{READING} {told}".encode()).hexdigest()
        return DatasetInfo(
            name=self.name,
            title=self.name,
            role="any",
            classes=self.classes,
            expected=self.expected,
            metric=self.metric,
            augmentation=self.augmentation,
            terms="your own",
            url=self.images,
            stored_margin=CROP_MARGIN if self.augmentation == "border_crop" else 1.0,
            version=int(digest[:12], 16),  # Told otherwise, it is another dataset.
            find=partial(_find, self),
            read=partial(_read, self),
        )


def imported_datasets(home: Path) -> dict[str, DatasetInfo]:
    """Return the imported datasets of a home folder by name.

    Raises:
        DatasetError: if a description cannot be read.
    """
    found = {}
    for file in sorted((home / "datasets").glob("*.json")):
        try:
            found[file.stem] = ImportedDataset.model_validate_json(file.read_bytes()).info()
        except ValidationError as error:
            raise DatasetError(
                f"{file}: not the description of an imported dataset; import `{file.stem}` again"
            ) from error
    return found


def describe(
    name: str,
    images: Path,
    masks: Path,
    classes: Path,
    *,
    train: Path | None = None,
    encoding: Encoding | None = None,
    metric: Metric | None = None,
    augmentation: Augmentation = "none",
) -> ImportedDataset:
    """Return the description of a dataset, having looked at its files.

    Args:
        classes: text file with a name per line, the background first; `name 255 0 0` where masks are
            coded by colours.
        train: text file with the id of a training image per line.
        encoding: of the masks; found out from all of them by default.

    Raises:
        DatasetError: if a folder or file is missing, a class list or id list cannot be read, or
            the encoding cannot be told.
        BadReleaseError: if all files are of kinds that are not read.
    """
    if not re.fullmatch(NAME, name):
        raise DatasetError(f"`{name}`: names are lower-case letters, digits and _, such as my_set")
    names, colours = read_classes(classes)
    pairs = _pairs(images, masks)
    if not pairs.entries:
        unread = [each for each in pairs.problems if " is not read" in each]
        if unread:
            raise BadReleaseError(f"{images} and {masks}", unread)
        raise DatasetLayoutError(
            f"{masks}: no mask has the name of an image in {images}"
            f" ({', '.join(MASKS)}; with or without {', '.join(SUFFIXES)})"
        )
    from trainables.data.encoding import tell_encoding, tell_white

    paths = [entry.masks[0] for entry in pairs.entries]
    if encoding is None:
        encoding = tell_encoding(paths, classes=len(names), colours=bool(colours))
    if encoding == "colours" and not colours:
        raise DatasetError(f"{classes}: no colours; lines are `name red green blue`")
    return ImportedDataset(
        name=name,
        images=str(images.absolute()),
        masks=str(masks.absolute()),
        classes=names,
        colours=colours,
        encoding=encoding,
        train=_train_ids(train, {entry.id for entry in pairs.entries}) if train else (),
        metric=metric or ("jaccard" if len(names) == 2 else "miou_ledm"),
        augmentation=augmentation,
        expected=len(pairs.entries),
        white=tell_white([entry.image for entry in pairs.entries]),
    )


def read_classes(path: Path) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Return the names of a class list, and their colours if it has them.

    Raises:
        DatasetError: if it cannot be read, has fewer than two classes or the same one twice, or
            colours for some classes only.
    """
    names, colours = [], []
    for line in _lines(path):
        match = re.fullmatch(r"(.+?)[\s,;]+(\d+)[\s,;]+(\d+)[\s,;]+(\d+)", line)
        names.append(match[1] if match else line)
        if match:
            if any(len(part.lstrip("0")) > 3 or int(part) > 255 for part in match.groups()[1:]):
                raise DatasetError(f"{path}: `{line}`: colours go from 0 to 255")
            red, green, blue = (int(match[i]) for i in (2, 3, 4))
            colours.append((red, green, blue))
    if not 2 <= len(names) <= MOST_CLASSES:
        raise DatasetError(f"{path}: {len(names)} classes; 2 to {MOST_CLASSES}, background first")
    for what, values in (("class", names), ("colour", colours)):
        doubled = next((value for value in values if values.count(value) > 1), None)  # type: ignore[arg-type]
        if doubled is not None:
            raise DatasetError(f"{path}: the {what} {doubled} is there twice")
    if colours and len(colours) != len(names):
        raise DatasetError(
            f"{path}: {len(colours)} of {len(names)} classes have a colour, not all"
        )
    return tuple(names), tuple(colours)


def _train_ids(path: Path, known: set[str]) -> tuple[str, ...]:
    ids = sorted({_plain(line) for line in _lines(path)})
    unknown = [each for each in ids if each not in known]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise DatasetError(f"{path}: no image has the id {', '.join(unknown[:3])}{more}")
    if not ids or len(ids) == len(known):
        raise DatasetError(f"{path}: names {len(ids)} of {len(known)} images; some must be left")
    return tuple(ids)


def _lines(path: Path) -> list[str]:
    try:
        text = read_user_text(path)
    except UserTextError as error:
        raise DatasetError(f"{path} is {error}") from error
    except OSError as error:
        raise DatasetError(f"{path}: not a readable text file: {error}") from error
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def _find(dataset: ImportedDataset, _: Path) -> Found:
    """Return the pairs of the folders that the dataset was imported from."""
    pairs = _pairs(Path(dataset.images), Path(dataset.masks))
    if not dataset.train:
        return pairs
    train = set(dataset.train)
    entries = (
        Entry(
            id=entry.id,
            image=entry.image,
            masks=entry.masks,
            split="train" if entry.id in train else "test",
        )
        for entry in pairs.entries
    )
    return pairs._replace(entries=tuple(entries))


def _pairs(images: Path, masks: Path) -> Found:
    found, doubled = _by_id(_files(images, IMAGES))
    named = [(_without_suffix(name, found), path) for name, path in _files(masks, MASKS)]
    shared = images.resolve() == masks.resolve()
    if shared:
        # One folder for both: what is named like a mask is one, all else is an image.
        found = {name: path for name, path in found.items() if not name.endswith(SUFFIXES)}
        named = [(name, path) for name, path in named if path != found.get(name)]
    beside, more = _by_id(named)
    problems = [
        *doubled,
        *more,
        *_unread_images(images, found),
        *_unread_masks(masks, beside, shared=shared),
        *unpaired(found, beside, "mask"),
        *unpaired(beside, found, "image"),
    ]
    entries = tuple(
        Entry(id=name, image=found[name], masks=(beside[name],))
        for name in sorted(found.keys() & beside.keys())
    )
    return Found(entries, tuple(problems), lost=len(found.keys() ^ beside.keys()))


def _files(root: Path, endings: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield id and path of the files below a folder: the id is the path without its ending."""
    for folder, names in walk(root):
        for name in sorted(names):
            path = folder / name
            if path.suffix.lower() in endings:
                yield _plain(path.relative_to(root).with_suffix("").as_posix()), path


def _unread_images(root: Path, readable: dict[str, Path]) -> Iterator[str]:
    """Yield a problem for each image of a kind that is not read and that no readable one replaces."""
    for name, path in _files(root, UNREAD):
        if name not in readable and not name.endswith(SUFFIXES):
            yield f"{path}: `{path.suffix}` is not read; save it as PNG"


def _unread_masks(root: Path, readable: dict[str, Path], *, shared: bool) -> Iterator[str]:
    """Yield the same for masks, which JPEG spoils; `shared` with images, they have a mask's name."""
    for name, path in _files(root, (*UNREAD, *JPEG)):
        if shared and not name.endswith(SUFFIXES):
            continue
        if _without_suffix(name, readable) not in readable:
            why = " as a mask, whose labels JPEG blurs" if path.suffix.lower() in JPEG else ""
            yield f"{path}: `{path.suffix}` is not read{why}; save it as PNG"


def _by_id(
    files: Iterator[tuple[str, Path]] | Sequence[tuple[str, Path]],
) -> tuple[dict[str, Path], list[str]]:
    found: dict[str, Path] = {}
    problems = []
    for name, path in files:
        if name in found:
            problems.append(f"{path}: has the same name as {found[name]}")
        else:
            found[name] = path
    return found, problems


def _without_suffix(name: str, images: dict[str, Path]) -> str:
    if name in images and not name.endswith(SUFFIXES):
        return name
    ending = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    return name.removesuffix(ending)


def _plain(name: str) -> str:
    """Return a name as other systems write it: macOS decomposes accented letters."""
    return unicodedata.normalize("NFC", name)


def _read(dataset: ImportedDataset, entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return image, RGB, and labels of one pair.

    Raises:
        BadImageError: if a file cannot be read, or the mask is of another size or has a colour
            that is no class.
    """
    from trainables.data.encoding import decode_mask
    from trainables.data.images import read_colour, require_shape

    image_HWC, path = read_colour(entry.image, white=dataset.white), entry.masks[0]
    labels_HW = decode_mask(path, dataset.encoding, dataset.colours)
    require_shape(path, labels_HW.shape, image_HWC.shape)
    return image_HWC, labels_HW
