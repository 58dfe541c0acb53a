"""Looking at a prepared dataset before anything is trained on it: labels, duplicates, leaks.

Two images are taken for the same if the signs of the differences between neighbouring pixels of a
16 x 16 reduction are (difference hash, 256 bits, of which a few may differ). That survives resizing,
compression and brightness, so that an image is recognised in another dataset, stored at another
side; it does not survive mirroring or cropping.

Shape suffixes: N images, K classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.data.errors import DatasetError
from trainables.data.info import IGNORED, DatasetInfo
from trainables.data.prepared import Prepared, find_prepared, folder_of
from trainables.data.splits import hold_out, split_target
from trainables.data.store import ArrowDataset, content_fingerprint_of

HASH_SIDE = 16
ALIKE_BITS = 10  # Of 256 that may differ between two copies of an image.
ROWS_AT_ONCE = 512  # Of the matrix of distances.
# The paper's splits, in which leaks are looked for: of a target, and of a source for supervised
# pretraining. A split that is given with the data goes before.
TRAIN_IMAGES, SPLIT_SEED = 20, 0
HOLD_OUT, PRETRAINING_SEED = 0.1, 0
PARTS = ("", "train", "val", "test", "hold-out")


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
    classes, ignored, unlabelled = _labels(data, info.classes)
    others = _others(prepared, home, known, image_size)
    duplicates = tuple(_duplicates(data, _partitions(data, info), others))
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
) -> dict[str, ArrowDataset]:
    """Return the other datasets by name that are prepared, and photographed or not like this one."""
    others = {}
    for other in known.values():
        found = find_prepared(home, other, image_size)
        if found and found.name != prepared.name and found.generated == prepared.generated:
            folder = folder_of(home, other, image_size)
            others[other.name] = ArrowDataset.open(folder, fingerprint=found.fingerprint)
    return others


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
    data: ArrowDataset,
    partitions: Sequence[Sequence[str]],
    others: Mapping[str, ArrowDataset],
) -> Iterator[Duplicate]:
    """Yield the pairs that look the same: here, once for each partition that they leak across."""
    hashes = hashes_of(data)
    for one, other in alike(hashes, hashes):
        if one >= other:
            continue
        between = [{parts[one], parts[other]} for parts in partitions]
        leaks = [" and ".join(sorted(each, key=PARTS.index)) for each in between if len(each) > 1]
        alone = next((f"within {part}" for each in between for part in each), "within the set")
        for where in leaks or [alone]:
            yield Duplicate(data.ids[one], data.ids[other], where)
    for name, theirs in others.items():
        for one, other in alike(hashes, hashes_of(theirs)):
            yield Duplicate(data.ids[one], theirs.ids[other], f"also in {name}")


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
