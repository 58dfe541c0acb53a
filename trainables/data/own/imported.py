"""A dataset of one's own as one like any other: how its images are found and read. No NumPy: the planner reads this."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.data.info import CROP_MARGIN, DatasetInfo, Entry, Found
from trainables.data.own.description import EARLIER, RULES, ImportedDataset, read_description
from trainables.data.own.pairing import pair

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from trainables.data.later_labels import LaterLabels


def imported_datasets(home: Path) -> dict[str, DatasetInfo]:
    """Return the imported datasets of a home folder by name.

    Raises:
        DatasetError: if a description cannot be read.
    """
    files = sorted((home / "datasets").glob("*.json"))
    return {file.stem: info_of(read_description(file)) for file in files}


def info_of(dataset: ImportedDataset) -> DatasetInfo:
    """Return what every dataset has: how to find and read it."""
    return DatasetInfo(
        name=dataset.name,
        title=dataset.name,
        role="any",
        classes=dataset.classes,
        expected=dataset.expected,
        metric=dataset.metric,
        augmentation=dataset.augmentation,
        terms="your own",
        url=dataset.images,
        preprocessing="equalised" if dataset.modality == "chest-xray" else "none",
        stored_margin=CROP_MARGIN if dataset.augmentation == "border_crop" else 1.0,
        version=dataset.version,
        sources=dataset.sources,
        doubt="" if dataset.rules == RULES else EARLIER.format(name=dataset.name),
        find=partial(_find, dataset),
        read=partial(_read, dataset),
    )


def _find(dataset: ImportedDataset, root: Path) -> Found:
    """Return the pairs of the places that the dataset was imported from."""
    return with_split(dataset, pair(dataset.places(root)))


def with_split(dataset: ImportedDataset, found: Found) -> Found:
    """Return pairs with the split that was said, if one was."""
    if not dataset.train:
        return found
    train = set(dataset.train)
    entries = (
        replace(entry, split="train" if entry.id in train else "test") for entry in found.entries
    )
    return found._replace(entries=tuple(entries))


def _read(
    dataset: ImportedDataset, entry: Entry
) -> tuple[NDArray[Any] | Image, NDArray[np.uint8] | LaterLabels]:
    """Return image and labels of one pair; a function of this module, since processes get its name."""
    from trainables.data.own.reading import open_pair  # With NumPy.

    return open_pair(dataset, entry)
