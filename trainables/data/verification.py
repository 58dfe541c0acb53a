"""Looking at a prepared dataset before anything is trained on it: labels, duplicates, leaks.

Two images are taken for the same if the signs of the differences between neighbouring pixels of a
16 x 16 reduction are (difference hash, 256 bits, of which a few may differ). That survives resizing,
compression and brightness, so that an image is recognised in another dataset, stored at another
side; it does not survive mirroring or cropping.

Shape suffixes: N images, K classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.data.errors import DatasetError
from trainables.data.info import IGNORED, DatasetInfo
from trainables.data.prepared import Prepared, find_prepared, folder_of
from trainables.data.splits import split_target
from trainables.data.store import ArrowDataset, content_fingerprint_of

HASH_SIDE = 16
ALIKE_BITS = 10  # Of 256 that may differ between two copies of an image.
ROWS_AT_ONCE = 512  # Of the matrix of distances.
TRAIN_IMAGES, SPLIT_SEED = 20, 0  # The paper's split, in which leaks are looked for.


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
    """Two images that look the same."""

    first: str
    second: str
    where: str
    """Which parts or datasets they connect; `within train` is harmless next to `train and test`."""


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
    pixels_K, images_K, ignored, unlabelled = _labels(data, len(info.classes))
    hashes = hashes_of(data)
    duplicates = list(_within(data, hashes, _parts(data) if info.role != "source" else None))
    compared = []
    for other in known.values():
        found = find_prepared(home, other, image_size)
        if found is None or other.name == info.name or found.generated != prepared.generated:
            continue
        compared.append(other.name)
        theirs = ArrowDataset.open(
            folder_of(home, other, image_size), fingerprint=found.fingerprint
        )
        duplicates += _between(data, hashes, theirs, other.name)
    classes = tuple(
        ClassShare(name, float(share), int(count))
        for name, share, count in zip(
            info.classes, pixels_K / max(pixels_K.sum(), 1), images_K, strict=True
        )
    )
    return Verified(
        prepared=prepared,
        expected=info.expected,
        classes=classes,
        ignored=ignored,
        unlabelled=unlabelled,
        duplicates=tuple(duplicates),
        compared_with=tuple(compared),
        problems=tuple(_problems(info, prepared, classes, unlabelled, duplicates)),
    )


def hashes_of(data: ArrowDataset) -> NDArray[np.uint64]:
    """Return the difference hash of every image, (N, 4) words of 64 bits."""
    hashes = np.empty((len(data), HASH_SIDE * HASH_SIDE // 64), np.uint64)
    for index in range(len(data)):
        image = Image.fromarray(data.images([index])[0]).convert("L")
        small = image.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BILINEAR)
        levels = np.asarray(small).astype(np.int16)
        bits = (levels[:, 1:] > levels[:, :-1]).ravel()
        hashes[index] = np.packbits(bits).view(np.uint64)
    return hashes


def alike(
    ours: NDArray[np.uint64], theirs: NDArray[np.uint64], *, bits: int = ALIKE_BITS
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of rows whose hashes differ in at most so many bits."""
    for first in range(0, len(ours), ROWS_AT_ONCE):
        part = ours[first : first + ROWS_AT_ONCE]
        distance = np.bitwise_count(part[:, None] ^ theirs[None]).sum(2, dtype=np.int64)
        for row, column in zip(*np.nonzero(distance <= bits), strict=True):
            yield first + int(row), int(column)


def _labels(
    data: ArrowDataset, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], float, tuple[str, ...]]:
    """Return pixels and images by class, the share of ignored pixels, and who shows nothing."""
    pixels_K, images_K = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    ignored, unlabelled = 0, []
    for index, name in enumerate(data.ids):
        labels = data.labels([index])
        counts = np.bincount(labels.ravel(), minlength=IGNORED + 1)
        pixels_K += counts[:classes]
        images_K += counts[:classes] > 0
        ignored += int(counts[IGNORED])
        if not counts[1:classes].any():
            unlabelled.append(name)
    total = int(pixels_K.sum()) + ignored
    return pixels_K, images_K, ignored / max(total, 1), tuple(unlabelled)


def _within(
    data: ArrowDataset, hashes: NDArray[np.uint64], part_of: list[str] | None
) -> Iterator[Duplicate]:
    part_of = part_of or [""] * len(data)
    for one, other in alike(hashes, hashes):
        if one < other:
            parts = sorted({part_of[one], part_of[other]}, key=("", "train", "val", "test").index)
            where = " and ".join(parts) if len(parts) > 1 else f"within {parts[0] or 'the set'}"
            yield Duplicate(data.ids[one], data.ids[other], where)


def _between(
    data: ArrowDataset, hashes: NDArray[np.uint64], theirs: ArrowDataset, name: str
) -> Iterator[Duplicate]:
    for one, other in alike(hashes, hashes_of(theirs)):
        yield Duplicate(data.ids[one], theirs.ids[other], f"also in {name}")


def _parts(data: ArrowDataset) -> list[str]:
    """Return the part of each image in the paper's split; empty where there is no such split."""
    parts = [""] * len(data)
    try:
        split = split_target(
            data.ids, data.official_split, train_images=TRAIN_IMAGES, split_seed=SPLIT_SEED
        )
    except ValueError:
        return parts
    for name, indices in split._asdict().items():
        for index in indices:
            parts[index] = name
    return parts


def _problems(
    info: DatasetInfo,
    prepared: Prepared,
    classes: tuple[ClassShare, ...],
    unlabelled: tuple[str, ...],
    duplicates: list[Duplicate],
) -> Iterator[str]:
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
        yield f"{len(leaks)} pairs of images look the same across parts or datasets"
