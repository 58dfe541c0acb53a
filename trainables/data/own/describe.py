"""Describing a dataset of one's own, having looked at its files."""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from PIL import Image

from trainables.data.errors import (
    BadImageError,
    BadReleaseError,
    DatasetError,
    DatasetLayoutError,
)
from trainables.data.files.decoded import is_deep
from trainables.data.files.images import JPEG_START, OWN_FORMATS, read_grey
from trainables.data.info import DatasetInfo, Found
from trainables.data.own.class_list import read_classes
from trainables.data.own.coding import MEANS, Look, Meaning, Told
from trainables.data.own.description import (
    RULES,
    ImportedDataset,
    split_archive,
)
from trainables.data.own.imported import info_of, with_split
from trainables.data.own.masks import open_mask
from trainables.data.own.pairing import (
    IMAGES,
    LOSSY,
    MASKS,
    SUFFIXES,
    Places,
    of_no_class,
    pair,
    split_pattern,
)
from trainables.data.own.reading import mask_meaning
from trainables.data.own.said import Said, ignored, require_agreement, train_ids, transparent
from trainables.data.own.telling import tell
from trainables.data.releases.release import walk
from trainables.data.releases.sources import opened_root, told_where

READERS = 4  # Threads; decoding releases the interpreter.
# Masks from which it is told how all are coded: one of `SHARE`, within these.
FEWEST, FIRST = 8, 64
SHARE = 32
MOST_COMPARED = 200  # Files that stand alone.
DEPTHS = (8, 10, 12, 14, 16)  # Bits of the converters that fill files of 16 bits.
NAME = r"[a-z][a-z0-9_]*"
MOST_BETWEEN = (
    0.1  # Of the pixels of masks that compression blurred; at more they have grey areas.
)


class Description(NamedTuple):
    """A dataset of one's own, with what was noticed when it was looked at."""

    dataset: ImportedDataset
    notes: tuple[str, ...]
    """Lines for the user."""
    every: bool
    """Whether every mask was looked at, or none need be."""
    found: Found
    """The pairs."""

    def info(self) -> DatasetInfo:
        """Return the dataset's, which need not look for its pairs again where they still lie."""
        info = info_of(self.dataset)
        if info.sources and all(path.is_dir() for path in info.sources):
            return replace(info, find=lambda _: with_split(self.dataset, self.found))
        return info


def describe(
    name: str, images: str | Path, masks: str | Path, classes: Path, **said: Any
) -> ImportedDataset:
    """Return the description of a dataset, having looked at every mask.

    Args:
        said: the other fields of `Said`.

    Raises:
        DatasetError: as `look_at` does.
    """
    with TemporaryDirectory() as folder:
        told = Said(classes=classes, **said)
        beside = Path(folder) / name
        return look_at(name, images, masks, told, every=True, unpack_beside=beside).dataset


def look_at(
    name: str,
    images: str | Path,
    masks: str | Path,
    said: Said,
    *,
    every: bool,
    unpack_beside: Path,
) -> Description:
    """Return the description of a dataset, having looked at its files.

    Args:
        images: folder, archive, or folder in an archive; or a pattern with `{id}` below one.
        masks: likewise; the pattern may have `{class}` and `*`, too.
        every: look at every mask, and not only at the first ones, against which reading holds the
            others.
        unpack_beside: path beside which archives are unpacked while they are looked at.

    Raises:
        DatasetError: if a folder or file is missing, a class list or id list cannot be read, or
            the encoding cannot be told.
        BadReleaseError: if all files are of kinds that are not read.
    """
    if not re.fullmatch(NAME, name):
        raise DatasetError(f"`{name}`: names are lower-case letters, digits and _, such as my_set")
    listed = read_classes(said.classes)
    image_folder, images_named = split_pattern(str(images))
    mask_folder, masks_named = split_pattern(str(masks), beside=image_folder)
    blank = ImportedDataset(
        name=name,
        images=str(image_folder.absolute()),
        masks=str(mask_folder.absolute()),
        images_named=images_named,
        masks_named=masks_named,
        classes=listed.names,
        colours=listed.colours,
        ids=listed.ids,
        ignore=tuple(ignored(text, listed) for text in said.ignore),
        transparent=transparent(said.transparent, listed),
        encoding=said.encoding or "ids",
        metric=said.metric or ("jaccard" if len(listed.names) == 2 else "miou_ledm"),
        augmentation=said.augmentation,
        modality=said.modality,
        any_mask_size=said.any_mask_size,
        rules=RULES,
        expected=0,
    )
    if said.encoding:
        require_agreement(said.encoding, blank, said.classes)
    with _opened(blank, unpack_beside) as places:
        pairs = _paired(places)
        told, notes = _told(blank, pairs, said, every=every)
        if unused := of_no_class(places, pairs):
            first = unused[0].relative_to(places.masks)
            notes.append(
                f"{len(unused)} masks are of no class of the list and unused, such as {first}"
            )
        white = tell_white([entry.image for entry in pairs.entries]) if not _xray(said) else None
    known = {entry.id for entry in pairs.entries}
    dataset = blank.model_copy(
        update={
            "encoding": told.encoding if told else said.encoding,
            "told": told,
            "train": train_ids(said.train, known) if said.train else (),
            "expected": len(pairs.entries),
            "white": white,
        }
    )
    masks_count = sum(len(entry.masks) for entry in pairs.entries)
    looked_at_all = every or told is None or told.smoothed or masks_count <= FEWEST
    notes.insert(0, f"masks are read as {dataset.encoding}: {MEANS[dataset.encoding]}")
    if white is not None:
        notes.append(f"grey images of 16 bits, white at {white}")
    return Description(dataset, tuple(notes), looked_at_all, pairs)


@contextmanager
def _opened(dataset: ImportedDataset, beside: Path) -> Iterator[Places]:
    """Yield where images and masks lie, archives unpacked for as long as it takes."""
    if not split_archive(Path(dataset.images))[0] and not split_archive(Path(dataset.masks))[0]:
        yield dataset.places()
        return
    with opened_root(dataset.sources, beside) as root, told_where(root):
        yield dataset.places(root.folder)


def _paired(places: Places) -> Found:
    """Return the pairs, of which there is at least one.

    Raises:
        DatasetLayoutError: if there is none, or more are in the folders above.
        BadReleaseError: if there is none because files are of kinds that are not read.
    """
    pairs = pair(places)
    if not pairs.entries:
        unread = [each for each in pairs.problems if " is not read" in each]
        if unread:
            raise BadReleaseError(f"{places.images} and {places.masks}", unread)
        _require_files(places, pairs)
    if pairs.lost and not (places.images_named or places.masks_named):
        _point_up(places, pairs)
    if not pairs.entries:
        suffixes = f"{', '.join(MASKS)}; with or without {', '.join(SUFFIXES)}"
        how = f"like {places.masks_named}" if places.masks_named else f"({suffixes})"
        raise DatasetLayoutError(
            f"{places.masks}: no mask has the name of an image in {places.images} {how}"
            f"{_but_for_case(pairs)}{_folders_of(places)}"
        )
    return pairs


def _require_files(places: Places, pairs: Found) -> None:
    """Raise a DatasetError if a folder is empty, or each id has two files between which to choose."""
    for folder, endings in ((places.images, IMAGES), (places.masks, (*MASKS, *LOSSY))):
        if not any(name for _, names in walk(folder) for name in names):
            raise DatasetLayoutError(f"{folder}: holds no file; {', '.join(endings)} are read")
    unclear = [each for each in pairs.problems if " is another file than " in each]
    if unclear:
        raise BadReleaseError(f"{places.images} and {places.masks}", unclear)


def _folders_of(places: Places) -> str:
    """Return the folders that may be meant where images and masks are said to lie in one."""
    if places.images != places.masks:
        return ""
    inside = sorted(
        {path.name for path, names in walk(places.images) if names} - {places.images.name}
    )
    return (
        f"; its folders with files are {', '.join(inside[:8])}, name two"
        if len(inside) > 1
        else ""
    )


def _but_for_case(pairs: Found) -> str:
    """Return a hint where names would fit if letters were all small; empty if they would not."""
    alone = [Path(problem.partition(": has no ")[0]) for problem in pairs.problems]
    for first, other in combinations(alone[:MOST_COMPARED], 2):
        if first.stem != other.stem and first.stem.lower() == other.stem.lower():
            return f"; {first.name} and {other.name} differ in capital letters"
    return ""


def _point_up(places: Places, pairs: Found) -> None:
    """Raise a DatasetLayoutError that names the folder above if there every file has its pair."""
    forbidden = {Path.home(), *Path.home().parents, Path.cwd(), *Path.cwd().parents}
    above = {each: each.parent for each in (places.images, places.masks)}
    for image, mask in (
        (above[places.images], places.masks),
        (places.images, above[places.masks]),
        (above[places.images], above[places.masks]),
    ):
        if image == mask or {image, mask} & forbidden:
            continue  # Not the place for a dataset, and a long search.
        with suppress(DatasetError):
            found = pair(places._replace(images=image, masks=mask))
            ours = any(
                entry.image.is_relative_to(places.images)
                and entry.masks[0].is_relative_to(places.masks)
                for entry in found.entries
            )
            if ours and not found.lost and len(found.entries) > len(pairs.entries):
                break
    else:
        return
    raise DatasetLayoutError(
        f"{pairs.lost} files have no image or no mask; all have one in --images {image} and --masks "
        f"{mask}, name these"
    )


def _told(
    dataset: ImportedDataset, pairs: Found, said: Said, *, every: bool
) -> tuple[Told | None, list[str]]:
    """Return what masks were told to be, None if their encoding was named; and notes."""
    if said.encoding:
        return None, []
    paths = [path for entry in pairs.entries for path in entry.masks]
    told, looks = _told_from(paths, mask_meaning(dataset), every=every)
    blurred = [look for look in looks if look.between is not None]
    if not blurred:
        return told, []
    between = sum(look.between or 0 for look in blurred)
    pixels = sum(look.pixels for look in blurred)
    if between > MOST_BETWEEN * pixels:
        raise DatasetError(
            f"{blurred[0].path}: {between / pixels:.1%} of the pixels of its kind are between black and "
            "white, too many for masks of two classes"
        )
    note = (
        f"{len(blurred)} masks are compressed with loss: what is above 127 is inside; "
        f"{between} of {pixels} pixels are in between (levels 64 to 191)"
    )
    return told, [note]


def _told_from(paths: Sequence[Path], meaning: Meaning, *, every: bool) -> tuple[Told, list[Look]]:
    """Return what masks are, told from the first ones, or from all where these do not tell."""
    if not every and len(paths) > FEWEST:
        looks = _looks(_spread(paths, max(FEWEST, min(FIRST, len(paths) // SHARE))))
        if any(look.container == "palette" for look in looks):
            looks = _looks(_spread(paths, FIRST))  # Each index that occurs is held against these.
        with suppress(DatasetError):
            if not any(look.between is not None for look in looks):
                return tell(looks, meaning), looks
    looks = _looks(paths)
    if not looks:
        raise DatasetError(_why_unread(paths))
    return tell(looks, meaning), looks


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Return so many paths, from all over them."""
    return [paths[i * len(paths) // count] for i in range(min(count, len(paths)))]


def _looks(paths: Sequence[Path]) -> list[Look]:
    """Return the looks of masks; those that cannot be read are left to the reading."""

    def look(path: Path) -> Look | None:
        with suppress(BadImageError):
            return open_mask(path).look
        return None

    with ThreadPoolExecutor(READERS) as pool:
        return [found for found in pool.map(look, paths) if found]


def _why_unread(paths: Sequence[Path]) -> str:
    try:
        open_mask(paths[0])
    except BadImageError as error:
        return f"none of {len(paths)} masks can be read; {error}"
    return f"{paths[0].parent}: none of the masks that were looked at can be read"


def tell_white(paths: Sequence[Path]) -> int | None:
    """Return the level that is white in grey images of more than 8 bits; None if there are none.

    The largest level of all of them, rounded up to 8, 10, 12, 14 or 16 bits: files have 16 bits, what
    filled them often fewer.
    """
    with ThreadPoolExecutor(READERS) as pool:
        largest = max(pool.map(_largest_deep_level, paths), default=0)
    if not largest:
        return None
    return next((2**bits - 1 for bits in DEPTHS if largest < 2**bits), None)


def _largest_deep_level(path: Path) -> int:
    """Return the largest level of a grey image of more than 8 bits; 0 for all others."""
    try:
        with path.open("rb") as file:
            if file.read(2) == JPEG_START:
                return 0
        with Image.open(path, formats=OWN_FORMATS) as image:
            deep = is_deep(image)
    except (OSError, ValueError, Image.DecompressionBombError):
        return 0  # Left to the reading.
    with suppress(BadImageError):
        return int(read_grey(path, OWN_FORMATS).max()) if deep else 0
    return 0


def _xray(said: Said) -> bool:
    return said.modality == "chest-xray"
