"""The description of a prepared dataset, `dataset.json`; no NumPy or Arrow: planning reads it."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainables.bounds import Bytes, ImagesOrNone, StoredSide, Version
from trainables.config import Augmentation, DatasetRef, Frozen, Metric
from trainables.data.info import DatasetInfo, LabelsAt, Preprocessing, Role
from trainables.storage import MIRROR_FILE

DESCRIPTION_FILE = "dataset.json"
DATA_FILE = "data.arrow"


class Prepared(Frozen):
    """A dataset as it lies in a home folder."""

    name: str
    title: str
    role: Role
    fingerprint: str
    """SHA-256 of the content: ids, official split, class names, pixels and labels."""
    classes: tuple[str, ...]
    stored_side: StoredSide
    images: ImagesOrNone
    generated: bool
    metric: Metric
    augmentation: Augmentation
    terms: str
    labels_at: LabelsAt = "corner"
    """Where batches take labels when they resize them; where it is not noted, at the corner."""
    version: Version
    """`DatasetInfo.version` that made it."""
    bytes: Bytes
    """Size of the Arrow file; another size is a torn or exchanged file."""
    skipped: tuple[str, ...] = ()
    """What of the release was left out, and why: `path: what is wrong`."""
    found: ImagesOrNone = 0
    """Labelled images that the release had, with those that were left out; 0 if not noted."""
    sources: str = ""
    """Digest of path, size and time of what it was read from; empty if generated or not noted."""
    preprocessing: Preprocessing | None = None
    """What was done to the images; None in a file that was written before it was noted, where
    `find_prepared` fills it in."""
    pixels: tuple[Bytes, ...] = ()
    """Pixels of each class at the stored side, ignored ones left out; empty if not noted."""

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """Names of the classes that no pixel has, as far as pixels were counted."""
        counted = zip(self.classes, self.pixels, strict=False)
        return tuple(name for name, pixels in counted if not pixels)

    def ref(self, image_size: int) -> DatasetRef:
        """Return what the spec of a run names it by.

        Args:
            image_size: side in pixels of what the network sees.
        """
        return DatasetRef(
            name=self.name,
            fingerprint=self.fingerprint,
            classes=len(self.classes),
            image_size=image_size,
            augmentation=self.augmentation,
            metric=self.metric,
            generated=self.generated,
        )


def known_of(info: DatasetInfo) -> dict[str, Any]:
    """Return what a description takes from what is known of a dataset before it is prepared."""
    return {
        "name": info.name,
        "title": info.title,
        "role": info.role,
        "classes": info.classes,
        "generated": info.generated,
        "metric": info.metric,
        "augmentation": info.augmentation,
        "terms": info.terms,
        "labels_at": info.labels_at,
        "version": info.version,
        "preprocessing": info.preprocessing,
    }


def folder_of(home: Path, info: DatasetInfo, image_size: int) -> Path:
    """Return where the dataset is prepared for networks that see `image_size` pixels."""
    return home / "datasets" / f"{info.name}-{info.stored_side(image_size)}"


def read_prepared(folder: Path) -> Prepared | None:
    """Return the description in `folder`; None if there is none, or none that can be read."""
    try:
        return Prepared.model_validate_json((folder / DESCRIPTION_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def find_prepared(home: Path, info: DatasetInfo, image_size: int) -> Prepared | None:
    """Return the prepared dataset; None if there is none, torn, or made by another version.

    Looks at the size of the Arrow file and not into it, so that a plan costs no reading. In the mirror
    of a home in an object store, the file may be there only.
    """
    folder = folder_of(home, info, image_size)
    prepared = read_prepared(folder)
    if prepared is None or prepared.version != info.version:
        return None
    try:
        whole = (folder / DATA_FILE).stat().st_size == prepared.bytes
    except OSError:
        whole = (home / MIRROR_FILE).is_file()
    if not whole:
        return None
    # What its version was made with, in a file that does not say so yet.
    noted = {"preprocessing": prepared.preprocessing or info.preprocessing}
    return prepared.model_copy(update=noted)
