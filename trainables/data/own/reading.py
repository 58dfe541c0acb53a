"""Reading an image of one's own with its mask or masks.

Shape suffixes: H height, W width, C channels.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.data.errors import BadImageError
from trainables.data.files.images import (
    OWN_FORMATS,
    open_colour,
    read_grey,
    require_aspect,
    require_shape,
)
from trainables.data.info import IGNORED, Entry
from trainables.data.later_labels import LaterLabels
from trainables.data.own.class_list import ClassList
from trainables.data.own.coding import (
    HALF_TRANSPARENT,
    NOT_BLACK_AND_WHITE,
    NUMBERS,
    OPAQUE,
    TRANSPARENT,
    Cell,
    Encoding,
    Look,
    Meaning,
    holds,
    label_of,
    shown_level,
)
from trainables.data.own.description import ImportedDataset
from trainables.data.own.masks import DEEP_WHITE, Mask, open_mask
from trainables.data.own.pairing import part_of
from trainables.data.own.telling import against, unlisted
from trainables.data.releases.chest_xray import equalise

OF_A_PART = ClassList(("outside", "inside"))
"""What the masks of single classes say."""


def mask_meaning(dataset: ImportedDataset) -> Meaning:
    """Return what the values of one mask file mean: of one class, or of all."""
    meaning = dataset.meaning
    return meaning._replace(classes=OF_A_PART) if dataset.by_class else meaning


def read_pair(
    dataset: ImportedDataset, entry: Entry
) -> tuple[NDArray[Any] | Image.Image, NDArray[np.uint8]]:
    """Return what `open_pair` does, which raises what this does, with all of labels_HW."""
    image, labels = open_pair(dataset, entry)
    return image, labels.whole() if isinstance(labels, LaterLabels) else labels


def open_pair(
    dataset: ImportedDataset, entry: Entry
) -> tuple[NDArray[Any] | Image.Image, NDArray[np.uint8] | LaterLabels]:
    """Return image and labels_HW: RGB of Pillow, or of an X-ray equalised levels, float32 HW.

    Raises:
        BadImageError: if a file cannot be read, or the mask is of another size, not coded as all
            others are, or has a value that is no class.
    """
    image = _image(dataset, entry.image)
    labels_HW = _united(dataset, entry)
    require = require_aspect if dataset.any_mask_size else require_shape
    shape = image.size[::-1] if isinstance(image, Image.Image) else image.shape
    require(entry.masks[0], labels_HW.shape, shape)
    return image, labels_HW


def _image(dataset: ImportedDataset, path: Path) -> NDArray[Any] | Image.Image:
    if dataset.modality == "chest-xray":
        levels_HW = read_grey(path, OWN_FORMATS, opaque=True)
        if levels_HW.min() < 0 or levels_HW.max() > 65535:
            raise BadImageError(f"{path}: grey levels of an X-ray must lie in 0 to 65535")
        return equalise(levels_HW)
    return open_colour(path, white=dataset.white, formats=OWN_FORMATS)


def _united(dataset: ImportedDataset, entry: Entry) -> NDArray[np.uint8] | LaterLabels:
    """Return labels_HW of all masks of an image: later classes lie over earlier ones."""
    if not dataset.masks_named:
        return open_labels(dataset, entry.masks[0])
    folder = _masks_folder(dataset, entry)
    layers = [(_label(dataset, path, folder), read_labels(dataset, path)) for path in entry.masks]
    labels_HW = np.zeros_like(layers[0][1])
    for path, (_, layer_HW) in zip(entry.masks, layers, strict=True):
        require_shape(path, layer_HW.shape, labels_HW.shape)
        # What one mask leaves open another may say.
        labels_HW[(layer_HW == IGNORED) & (labels_HW == 0)] = IGNORED
    for label, layer_HW in sorted(layers, key=lambda layer: layer[0]):
        inside_HW = (layer_HW != 0) & (layer_HW != IGNORED)
        before_HW = labels_HW[inside_HW]
        if (
            not label
            and ((before_HW != layer_HW[inside_HW]) & ~np.isin(before_HW, (0, IGNORED))).any()
        ):
            raise BadImageError(
                f"{entry.masks[0]}: masks of `{entry.id}` overlap in other classes"
            )
        labels_HW[inside_HW] = layer_HW[inside_HW] if label == 0 else label
    return labels_HW


def _label(dataset: ImportedDataset, path: Path, folder: Path) -> int:
    """Return the class that the name of a mask says; 0 where the mask itself does."""
    if not dataset.by_class:
        return 0
    part = part_of(dataset.masks_named, path, folder, dataset.classes[1:])
    return dataset.classes.index(part)


def _masks_folder(dataset: ImportedDataset, entry: Entry) -> Path:
    """Return the folder below which the pattern of masks is: of an archive, where it is unpacked."""
    depth = dataset.masks_named.count("/") + 1
    fixed = Path(dataset.masks)
    if entry.masks[0].is_relative_to(fixed):
        return fixed
    # `{id}` may have folders of its own, which the id tells.
    extra = entry.id.count("/") * dataset.masks_named.count("{id}")
    return entry.masks[0].parents[depth + extra - 1]


def read_labels(dataset: ImportedDataset, path: Path) -> NDArray[np.uint8]:
    """Return labels_HW of one mask; raises what `open_labels` does."""
    return open_labels(dataset, path).whole()


def open_labels(dataset: ImportedDataset, path: Path) -> LaterLabels:
    """Return the labels of one mask.

    Raises:
        BadImageError: if it cannot be read, or can be read in another way.
    """
    mask, meaning = open_mask(path), mask_meaning(dataset)
    told = dataset.told
    if told:
        if wrong := against(told, mask.look, meaning):
            raise BadImageError(f"{path}: {wrong}; import `{dataset.name}` again, to look at all")
        reading = told.encoding
    else:
        reading = dataset.reading
    _require_said(mask, reading, meaning)
    if reading == "binary" and (told is None or told.smoothed):
        return _by_threshold(mask, meaning)
    return mask.labels(partial(label_of, reading, meaning=meaning), _in_words(reading, meaning))


def _in_words(reading: Encoding, meaning: Meaning) -> str:
    """Return what the values of classes are."""
    count = len(meaning.classes.names)
    if reading == "binary":
        return "2 classes are 0 and 255"
    if reading == "colours":
        return ""
    if meaning.classes.ids:
        return f"{count} classes have the numbers of the class list, and {IGNORED} is ignored"
    return f"{count} classes are 0 to {count - 1}, and {IGNORED} for ignored pixels"


def _require_said(mask: Mask, reading: Encoding, meaning: Meaning) -> None:
    """Raise a BadImageError if a mask does not hold what the encoding takes."""
    look = mask.look
    if reading not in NUMBERS and (index := unlisted(look)):
        raise BadImageError(f"{look.path}: {index}")
    if look.between is not None and reading != "binary":
        raise BadImageError(f"{look.path}: lossy compression blurs labels; save it as PNG")
    if not holds(reading, look):
        raise BadImageError(f"{look.path}: has no {NUMBERS[reading]} ({look.container})")
    if look.inverted and reading in ("binary", "levels") and _shown_of_none(look):
        raise BadImageError(
            f"{look.path}: stores white as 0 in more than 8 bits, and not black as {DEEP_WHITE}, so that it "
            "is not known what it shows; save it as PNG, or --encoding ids takes what is stored"
        )
    alphas = {cell.alpha for cell in look.cells} - {OPAQUE}
    if reading == "palette" and meaning.transparent is None:
        return  # The index was asked for, whatever is shown.
    if alphas - {0}:
        raise BadImageError(f"{look.path}: {HALF_TRANSPARENT}")
    if alphas and meaning.transparent is None:
        raise BadImageError(f"{look.path}: {TRANSPARENT}")


def _shown_of_none(look: Look) -> bool:
    """Whether nothing says what the values of a mask are shown as."""
    return any(cell.colour is None for cell in look.cells)


def _by_threshold(mask: Mask, meaning: Meaning) -> LaterLabels:
    """Return labels: white's above half of the range, so that masks may be smoothed.

    Raises:
        BadImageError: if the mask is not grey, or its largest level says that it is no such mask.
    """
    levels = {cell: shown_level(cell) for cell in mask.cells.values()}
    if mask.look.container == "colour" or None in levels.values():
        raise BadImageError(f"{mask.look.path}: {NOT_BLACK_AND_WHITE}")
    known = [level for level in levels.values() if level is not None]
    full = 255 if max(known) <= 255 else 65535
    small = max(known) > 0 and 2 * max(known) <= full
    if small and set(known) != {0, 1}:
        some = ", ".join(map(str, sorted(known)[:4])) + (", ..." if len(known) > 4 else "")
        raise BadImageError(
            f"{mask.look.path}: the levels {some} of a mask do not say what is inside; it must have "
            f"0 and {full}, or 0 and 1"
        )
    least = 1 if small else full // 2 + 1
    white = 1 if meaning.white is None else meaning.white

    def inside(cell: Cell) -> int | None:
        level = levels[cell]
        if cell.alpha != OPAQUE:
            return meaning.transparent
        if level in meaning.ignore:
            return IGNORED
        bright = level is not None and level >= least
        return white if bright else 1 - white

    return mask.labels(inside, _in_words("binary", meaning))
