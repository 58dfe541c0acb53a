"""What one was told about a dataset of one's own, as a home folder keeps it.

It lies there as `datasets/<name>.json`; from then on the dataset is known by its name like any other,
and prepared for any side from the same files. No NumPy: the planner reads these.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from trainables.bounds import Byte, ImagesOrNone, Level, Version
from trainables.config import Augmentation, Frozen, Metric
from trainables.data.errors import DatasetError, DatasetLayoutError
from trainables.data.files.archive import is_archive
from trainables.data.own.class_list import ClassList, Colour
from trainables.data.own.coding import Encoding, Meaning, Told, Value
from trainables.data.own.pairing import Places

Modality = Literal["photograph", "chest-xray"]
"""What images are: shown as they are, or X-rays, which are equalised as the official ones are."""
RULES = 1
"""Raised when forms of files are read otherwise, or refused, that were read before. Sets that were imported under
earlier rules stay as they are, since most have no such files, but are told of."""
READING = 2  # Raised when the same files are read as other pixels. 1 took labels at corners.


class ImportedDataset(Frozen):
    """What one was told about a dataset."""

    name: str
    images: str
    """Folder or archive, absolute."""
    masks: str
    classes: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    """Colour of each class in the masks, where they are listed."""
    encoding: Encoding
    train: tuple[str, ...] = ()
    """Ids to train on, all others being for validation and test; empty leaves it to the split."""
    metric: Metric
    augmentation: Augmentation = "none"
    expected: ImagesOrNone
    """Images with a mask when it was imported."""
    white: Level | None = None
    """Level that is white in grey images of more than 8 bits; None if there are none."""
    ids: tuple[Level, ...] = ()
    """Numbers by which masks call the classes, where they are listed."""
    ignore: tuple[Value | Colour, ...] = ()
    """Numbers, levels or colours in masks that are to be ignored, beside 255."""
    transparent: Byte | None = None
    """Label of transparent pixels."""
    images_named: str = ""
    """Pattern of the images below their folder, with `{id}`."""
    masks_named: str = ""
    """Pattern of the masks, with `{id}`, and perhaps `{class}` and `*`."""
    modality: Modality = "photograph"
    any_mask_size: bool = False
    """Whether masks may be smaller or larger than their image, if of the same shape."""
    rules: Version = 0
    """`RULES` when it was imported; 0 in older descriptions."""
    told: Told | None = None
    """What all masks were told to be; None if the encoding was named."""

    @property
    def class_list(self) -> ClassList:
        """The classes, and by what masks say each."""
        return ClassList(self.classes, self.colours, self.ids)

    @property
    def meaning(self) -> Meaning:
        """What was said about the values of masks."""
        return Meaning(self.class_list, self.ignore, self.transparent)

    @property
    def by_class(self) -> bool:
        """Whether each mask is of one class, which its name says."""
        return "{class}" in self.masks_named

    @property
    def reading(self) -> Encoding:
        """How masks are read: by the colours of the class list, if it has any and nothing else."""
        # A description of before may have listed colours that were not heeded.
        greys = self.encoding in ("binary", "ids")
        return "colours" if self.colours and not self.ids and greys else self.encoding

    @property
    def sources(self) -> tuple[Path, ...]:
        """The archives and folders that it lies in; the masks' folder beside the images' goes unsaid."""
        places = [Path(each) for each in (self.images, self.masks)]
        archives = [split_archive(each)[0] for each in places]
        if not any(archives):
            return (places[0],)
        found = (archive or place for archive, place in zip(archives, places, strict=True))
        return tuple(dict.fromkeys(found))

    def places(self, root: Path | None = None) -> Places:
        """Return where images and masks lie.

        Args:
            root: where the archives are unpacked, those of `sources`.

        Raises:
            DatasetLayoutError: if what is said to be inside of an archive is not.
        """
        folders = [self._folder(Path(each), root) for each in (self.images, self.masks)]
        return Places(
            images=folders[0],
            masks=folders[1],
            images_named=self.images_named,
            masks_named=self.masks_named,
            lossy=len(self.classes) == 2 or self.by_class,
            parts=self.classes[1:],
        )

    @property
    def version(self) -> int:
        """Return a number that is another for a dataset that was told otherwise."""
        # Without what is not there, so that a field that is new leaves older descriptions as they are.
        unsaid = {
            name
            for name, field in type(self).model_fields.items()
            if name in NEWER and getattr(self, name) == field.default
        }
        told = self.model_dump_json(exclude={*unsaid, "told", "rules"})
        digest = hashlib.sha256(f"{READING} {told}".encode()).hexdigest()
        return int(digest[:12], 16)

    def _folder(self, path: Path, root: Path | None) -> Path:
        archive, inside = split_archive(path)
        if archive is None or root is None:
            return path
        number = self.sources.index(archive)
        (place,) = (each for each in root.glob(f"{number}-*/*"))
        if not (place / inside).is_dir():
            raise DatasetLayoutError(f"{archive}: no folder `{inside}` in it")
        return place / inside


EARLIER = (
    "was imported under earlier rules, which took some masks and images for something else (palettes with "
    "white first or with the indices 0 and 255, colours of grey masks, TIFF with white as 0 or with "
    "fractions); import `{name}` again"
)
NEWER = (
    "white",
    "ids",
    "ignore",
    "transparent",
    "images_named",
    "masks_named",
    "modality",
    "any_mask_size",
)
"""Fields that older descriptions have not."""


def split_archive(path: Path) -> tuple[Path | None, Path]:
    """Return the archive that a path leads into and the path inside; None and the path if in none."""
    for above in (path, *path.parents):
        if is_archive(above) and above.is_file():
            return above, path.relative_to(above)
    return None, path


def read_description(file: Path) -> ImportedDataset:
    """Return the description of a dataset.

    Raises:
        DatasetError: if it cannot be read.
    """
    try:
        return ImportedDataset.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise DatasetError(
            f"{file}: not the description of an imported dataset; import `{file.stem}` again"
        ) from error
