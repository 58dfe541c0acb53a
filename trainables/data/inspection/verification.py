"""Looking at a prepared dataset before anything is trained on it: labels, duplicates, leaks.

Two images are the same if their pixels are. If their layout and their detail agree (`likeness`), they
look alike, also across datasets that are stored at other sides or preprocessed in another way: nearly
always copies, which only a person who looks at them can say.

Shape suffixes: N images, K classes, D = 256 values of a layout.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from trainables.data.errors import DatasetError
from trainables.data.feeding.splits import hold_out, split_target
from trainables.data.info import IGNORED, DatasetInfo
from trainables.data.inspection.likeness import (
    DETAIL_SIDE,
    Vectors,
    agreement,
    candidates,
    detail,
    layout,
    least_detail,
)
from trainables.data.prepared import Prepared, find_prepared, folder_of
from trainables.data.store import ArrowDataset, content_fingerprint_of

DETAILS_KEPT = 1024  # Images of which the detail is remembered, at most 64 KB each.
# The paper's splits, in which leaks are looked for: of a target, and of a source for supervised
# pretraining. A split that is given with the data goes before.
TRAIN_IMAGES, SPLIT_SEED = 20, 0
HOLD_OUT, PRETRAINING_SEED = 0.1, 0
PARTS = ("", "train", "val", "test", "hold-out")

Likeness = Literal["the same", "alike", "alike, mirrored"]
"""`the same` is proven, pixel by pixel; `alike` is not."""


@dataclass(frozen=True)
class ClassShare:
    """How much of a dataset belongs to one class."""

    name: str
    pixels: float
    """Of all pixels that are not ignored."""
    images: int
    """That have a pixel of it."""


@dataclass(frozen=True)
class Duplicate:
    """Two images that are the same, or look alike."""

    first: str
    second: str
    where: str
    """Which parts or datasets they connect; `within train` is harmless next to `train and test`."""
    likeness: Likeness


@dataclass(frozen=True)
class Verified:
    """What was found in a prepared dataset."""

    prepared: Prepared
    expected: int
    classes: tuple[ClassShare, ...]
    ignored: float
    """Share of pixels that are ignored."""
    unlabelled: tuple[str, ...]
    """Ids of images that show nothing but background."""
    duplicates: tuple[Duplicate, ...]
    compared_with: tuple[str, ...]
    """Other prepared datasets in which duplicates were looked for."""
    problems: tuple[str, ...]
    """What should be looked at before training, in words."""


def verify_dataset(
    info: DatasetInfo, home: Path, known: Mapping[str, DatasetInfo], *, image_size: int
) -> Verified:
    """Read all of a prepared dataset and return what is in it.

    Args:
        known: every dataset by name; duplicates are looked for in those that are prepared for this
            image size and not made by a program.

    Raises:
        DatasetError: if it is not prepared.
        DatasetChangedError: if the file is torn, or its content not what was prepared.
    """
    prepared = find_prepared(home, info, image_size)
    if prepared is None:
        raise DatasetError(f"`{info.name}` is not prepared for {image_size} px")
    folder = folder_of(home, info, image_size)
    content_fingerprint_of(folder)
    data = ArrowDataset.open(folder, fingerprint=prepared.fingerprint)
    classes, ignored, unlabelled = _labels(data, info.classes)
    others = _others(prepared, home, known, image_size)
    looks = _Looks(data, prepared.stored_side)
    duplicates = tuple(_duplicates(looks, _partitions(data, info), others))
    return Verified(
        prepared=prepared,
        expected=info.expected,
        classes=classes,
        ignored=ignored,
        unlabelled=unlabelled,
        duplicates=duplicates,
        compared_with=tuple(others),
        problems=tuple(_problems(info, prepared, classes, unlabelled, duplicates)),
    )


def _others(
    prepared: Prepared, home: Path, known: Mapping[str, DatasetInfo], image_size: int
) -> dict[str, "_Looks"]:
    """Return the other datasets by name that are prepared, and photographed or not like this one."""
    others = {}
    for other in known.values():
        found = find_prepared(home, other, image_size)
        if found and found.name != prepared.name and found.generated == prepared.generated:
            folder = folder_of(home, other, image_size)
            data = ArrowDataset.open(folder, fingerprint=found.fingerprint)
            others[other.name] = _Looks(data, found.stored_side)
    return others


class _Looks:
    """What the images of a dataset look like, each read once for its layout, and again for its detail."""

    def __init__(self, data: ArrowDataset, side: int) -> None:
        self.ids, self.side, self._data = data.ids, side, data
        layouts, self.pixels = [], []
        for index in range(len(data)):
            image = data.images([index])[0]
            layouts.append(layout(image))
            self.pixels.append(hashlib.sha256(image).digest())
        self.layouts_ND = np.stack(layouts)
        self.detail = lru_cache(DETAILS_KEPT)(self._detail)

    def _detail(self, index: int, side: int) -> Vectors:
        return detail(self._data.images([index])[0], side)


def _alike(ours: _Looks, theirs: _Looks) -> Iterator[tuple[int, int, Likeness]]:
    """Yield the pairs of images that are the same or look alike, and which of these; ascending."""
    places: dict[bytes, list[int]] = {}
    if ours.side == theirs.side:
        for column, pixels in enumerate(theirs.pixels):
            places.setdefault(pixels, []).append(column)
    same = {(row, at) for row, pixels in enumerate(ours.pixels) for at in places.get(pixels, ())}
    side = min(ours.side, theirs.side, DETAIL_SIDE)
    for row, column in sorted(same.union(candidates(ours.layouts_ND, theirs.layouts_ND))):
        if ours is theirs and row >= column:
            continue
        if (row, column) in same:
            yield row, column, "the same"
            continue
        agreed, flipped = agreement(ours.detail(row, side), theirs.detail(column, side))
        if agreed >= least_detail(side):
            yield row, column, "alike, mirrored" if flipped else "alike"


def _labels(
    data: ArrowDataset, names: Sequence[str]
) -> tuple[tuple[ClassShare, ...], float, tuple[str, ...]]:
    """Return how much there is of each class, the share of ignored pixels, and who shows nothing."""
    classes = len(names)
    pixels_K, images_K = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    ignored, unlabelled = 0, []
    for index, image in enumerate(data.ids):
        counts = np.bincount(data.labels([index]).ravel(), minlength=IGNORED + 1)
        pixels_K += counts[:classes]
        images_K += counts[:classes] > 0
        ignored += int(counts[IGNORED])
        if not counts[1:classes].any():
            unlabelled.append(image)
    labelled = int(pixels_K.sum())
    shares = tuple(
        ClassShare(name, float(pixels / max(labelled, 1)), int(images))
        for name, pixels, images in zip(names, pixels_K, images_K, strict=True)
    )
    return shares, ignored / max(labelled + ignored, 1), tuple(unlabelled)


def _duplicates(
    ours: _Looks,
    partitions: Sequence[Sequence[str]],
    others: Mapping[str, _Looks],
) -> Iterator[Duplicate]:
    """Yield the pairs that look alike: here, once for each partition that they leak across."""
    for one, other, likeness in _alike(ours, ours):
        between = [{parts[one], parts[other]} for parts in partitions]
        leaks = [" and ".join(sorted(each, key=PARTS.index)) for each in between if len(each) > 1]
        alone = next((f"within {part}" for each in between for part in each), "within the set")
        for where in leaks or [alone]:
            yield Duplicate(ours.ids[one], ours.ids[other], where, likeness)
    for name, theirs in others.items():
        for one, other, likeness in _alike(ours, theirs):
            yield Duplicate(ours.ids[one], theirs.ids[other], f"also in {name}", likeness)


def _partitions(data: ArrowDataset, info: DatasetInfo) -> list[list[str]]:
    """Return the part of each image, for each way in which studies divide the dataset."""
    divided: list[Mapping[str, Sequence[int]]] = []
    given = data.official_split.count("train")
    if info.role != "source":
        with suppress(ValueError):  # Too few images for any split.
            divided.append(
                split_target(
                    data.ids,
                    data.official_split,
                    train_images=given or TRAIN_IMAGES,
                    split_seed=SPLIT_SEED,
                )._asdict()
            )
    if info.role != "target":
        train, held = hold_out(data.ids, HOLD_OUT, PRETRAINING_SEED)
        divided.append({"train": train, "hold-out": held})
    partitions = []
    for parts in divided:
        part_of = {i: name for name, indices in parts.items() for i in indices}
        partitions.append([part_of.get(i, "") for i in range(len(data))])
    return partitions


def _problems(
    info: DatasetInfo,
    prepared: Prepared,
    classes: tuple[ClassShare, ...],
    unlabelled: tuple[str, ...],
    duplicates: Sequence[Duplicate],
) -> Iterator[str]:
    if info.doubt:
        yield info.doubt
    if prepared.images != info.expected and not prepared.generated:
        yield f"{prepared.images} images instead of {info.expected}"
    if prepared.skipped:
        yield f"{len(prepared.skipped)} files were skipped when it was prepared"
    empty = [each.name for each in classes if not each.images]
    if empty:
        yield f"no pixel of {', '.join(empty)}"
    if unlabelled:
        yield f"{len(unlabelled)} images show nothing but {info.classes[0]}: {unlabelled[0]} ..."
    leaks = [each for each in duplicates if not each.where.startswith("within")]
    if leaks:
        yield f"{len(leaks)} pairs of images are the same or look alike across parts or datasets"
