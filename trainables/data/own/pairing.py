"""Which mask belongs to which image: by name, by name with a suffix, or by a pattern."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trainables.data.errors import DatasetError
from trainables.data.info import Entry, Found
from trainables.data.releases.release import Files, one_each, unpaired, walk

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
LOSSY = (".jpg", ".jpeg")
MASKS = (".png", ".bmp", ".npy", ".tif", ".tiff", ".gif", ".webp")
UNREAD = (".jp2", ".heic", ".dcm", ".nii", ".gz", ".mha", ".nrrd")
"""What images and masks come as too, and what is not read."""
SUFFIXES = (
    "_mask",
    "_segmentation",
    "_labels",
    "_label",
    "_gt",
    "_manual1",
    "_1stHO",
)
"""What masks may be called beyond the name of their image."""
OF_IMAGES = ("_training", "_test")
"""What images may be called beyond what they share with their mask, as those of DRIVE are."""


class Places(NamedTuple):
    """Where images and masks lie, and how they are called."""

    images: Path
    masks: Path
    images_named: str = ""
    """Pattern below the folder, with `{id}`; empty: all files, their names being the ids."""
    masks_named: str = ""
    """Pattern with `{id}`, and perhaps `{class}` and `*`; empty: as the images, or with a suffix."""
    lossy: bool = False
    """Whether masks may be JPEG."""
    parts: tuple[str, ...] = ()
    """Names that `{class}` may have."""

    @property
    def several(self) -> bool:
        """Whether an image may have several masks, which are united."""
        return "*" in self.masks_named


def split_pattern(text: str, *, beside: Path | None = None) -> tuple[Path, str]:
    """Return the folder and the pattern below it of what a user named; no pattern without `{id}`.

    Args:
        beside: the folder of a pattern that names none.

    Raises:
        DatasetError: if there are braces that mean nothing.
    """
    if not re.search(r"[{*]", text):
        return _straight(Path(text)), ""
    strange = set(re.findall(r"\{[^}]*\}?", text)) - {"{id}", "{class}"}
    if strange or "{id}" not in text:
        raise DatasetError(
            f"`{text}`: a pattern has {{id}} in it, and perhaps {{class}} and *, such as "
            "`masks/{id}_contour.png`"
        )
    parts = Path(text).parts
    first = next(i for i, part in enumerate(parts) if re.search(r"[{*]", part))
    folder = Path(*parts[:first]) if first else beside or Path()
    return _straight(folder), "/".join(parts[first:])


def _straight(path: Path) -> Path:
    """Return a path without `..`, so that one folder has one name."""
    return path.resolve() if ".." in path.parts else path


def pair(places: Places) -> Found:
    """Return the images with their masks, and a problem for every file that stands alone.

    Raises:
        DatasetLayoutError: if a folder is missing.
    """
    images, problems = _images(places)
    masks, more, doubled = _masks(places, images)
    told = {*images.unclear, *doubled}
    beside = {name: next(iter(found)) for name, found in masks.items()}
    others = _other_masks(places, images, beside)
    problems += [
        *more,
        *others.values(),
        *unpaired(images, beside, "mask", {*told, *others}),
        *unpaired(beside, images, "image", told),
    ]
    entries = tuple(
        Entry(id=name, image=images[name], masks=masks[name])
        for name in sorted(images.keys() & masks.keys())
    )
    lost = len((images.keys() ^ masks.keys()) | told)
    return Found(entries, tuple(dict.fromkeys(problems)), lost=lost)


def _other_masks(
    places: Places, images: Mapping[str, Path], masks: Mapping[str, Path]
) -> dict[str, str]:
    """Return a problem for each image that seems to be a second mask, of another annotator or kind."""
    if places.images != places.masks or places.masks_named:
        return {}
    found = {}
    for name in images.keys() - masks.keys():
        ends = [i for i, letter in enumerate(name) if letter == "_"]
        of = next((name[:i] for i in ends if name[:i] in masks), None)
        if of is not None:
            ending = f"{name.removeprefix(of)}{images[name].suffix}"
            found[name] = (
                f"{images[name]}: has no mask, and may be another one of `{of}`; patterns say which is "
                f"meant, such as --images '{places.images}/{{id}}{images[of].suffix}' "
                f"--masks '{{id}}{ending}'"
            )
    return {name: found[name] for name in sorted(found)}


def part_of(pattern: str, path: Path, root: Path, parts: Sequence[str]) -> str:
    """Return the class that the name of a mask says; only asked of masks that `pair` found."""
    text = plain(path.relative_to(root).as_posix())
    return next(part for part in _longest_first(parts) if _matched(pattern, text, part))


def of_no_class(places: Places, found: Found) -> list[Path]:
    """Return masks of known images that a pattern would take if the class list had their class."""
    if "{class}" not in places.masks_named:
        return []
    pattern = places.masks_named.replace("{class}", "*")
    known = {entry.id for entry in found.entries}
    used = {path for entry in found.entries for path in (entry.image, *entry.masks)}
    unused = []
    for _, path in _files(places.masks, MASKS):
        below = plain(_below(path, places.masks))
        if path not in used and known & {
            _matched(pattern, below, least=each) for each in (False, True)
        }:
            unused.append(path)
    return unused


def plain(name: str) -> str:
    """Return a name as other systems write it: macOS decomposes accented letters."""
    return unicodedata.normalize("NFC", name)


def _images(places: Places) -> tuple[Files, list[str]]:
    """Return the images by id, and problems."""
    named: list[tuple[str, Path]] = []
    unread: list[tuple[str, Path]] = []
    for name, path in _files(places.images, (*IMAGES, *UNREAD)):
        if _is_mask(path, places):
            continue
        if places.images_named:
            found = _matched(places.images_named, plain(_below(path, places.images)))
            if found is None:
                continue
            name = found  # noqa: PLW2901 - as the pattern says
        elif places.images == places.masks and name.endswith(SUFFIXES):
            continue
        (named if path.suffix.lower() in IMAGES else unread).append((name, path))
    images = one_each(named)
    problems = list(images.unclear.values())
    for name, path in unread:
        if name not in images and name not in images.unclear:
            problems.append(f"{path}: `{path.suffix}` is not read; save it as PNG")
    return images, problems


def _is_mask(path: Path, places: Places) -> bool:
    """Whether a file below the images' folder is known to be a mask: by its pattern or its folder."""
    if places.masks_named:
        if not path.is_relative_to(places.masks):
            return False
        below = plain(_below(path, places.masks))
        parts = places.parts if "{class}" in places.masks_named else ("",)
        return any(_matched(places.masks_named, below, part) is not None for part in parts)
    inside = places.images != places.masks and places.masks.is_relative_to(places.images)
    return inside and path.is_relative_to(places.masks)


def _masks(
    places: Places, images: Files
) -> tuple[dict[str, tuple[Path, ...]], list[str], set[str]]:
    """Return the masks by the id of their image, problems, and ids of which one is told."""
    endings = (*MASKS, *LOSSY) if places.lossy else MASKS
    files: list[tuple[str, Path]] = []
    unread: list[tuple[str, Path]] = []
    shared = places.images == places.masks
    used = set(images.values())
    for name, path in _files(places.masks, (*MASKS, *LOSSY, *UNREAD)):
        if path in used or (path.is_relative_to(places.images) and _inside_images(places)):
            continue
        if shared and not places.masks_named and not name.endswith(SUFFIXES):
            continue
        (files if path.suffix.lower() in endings else unread).append((name, path))
    if places.masks_named:
        return _by_pattern(places, [path for _, path in files], images)
    found = one_each(_named_as(files, images))
    problems = list(found.unclear.values())
    for name, path in unread:
        known = _base(name, images)
        if known not in found and known not in found.unclear:
            why = " as a mask, whose labels JPEG blurs" if path.suffix.lower() in LOSSY else ""
            problems.append(f"{path}: `{path.suffix}` is not read{why}; save it as PNG")
    return {name: (path,) for name, path in found.items()}, problems, set(found.unclear)


def _inside_images(places: Places) -> bool:
    """Whether the images' folder is below the one of masks, where its files are no masks."""
    return places.images != places.masks and places.images.is_relative_to(places.masks)


def _named_as(
    files: Sequence[tuple[str, Path]], images: Mapping[str, Path]
) -> list[tuple[str, Path]]:
    """Return the files under the ids of their images: by path, or where no path fits by name.

    Names decide only where no two images and no two masks have the same.
    """
    named = [(_base(name, images), path) for name, path in files]
    if any(name in images for name, _ in named):
        return named
    by_name = {Path(name).name: name for name in images}
    short = [_base(Path(name).name, by_name) for name, _ in files]
    if len(by_name) < len(images) or len(set(short)) < len(short):
        return named
    return [(by_name.get(key, name), path) for key, (name, path) in zip(short, named, strict=True)]


def _base(name: str, images: Mapping[str, object]) -> str:
    """Return the id of the image that a mask of this name belongs to."""
    if name in images and not name.endswith(SUFFIXES):
        return name
    ending = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    base = name.removesuffix(ending)
    known = [base + more for more in OF_IMAGES if base not in images and base + more in images]
    return known[0] if ending and len(known) == 1 else base


def _by_pattern(
    places: Places, files: Sequence[Path], images: Mapping[str, Path]
) -> tuple[dict[str, tuple[Path, ...]], list[str], set[str]]:
    found: dict[str, list[Path]] = {}
    taken: dict[tuple[str, str], Path] = {}
    doubled: set[str] = set()
    problems = []
    parts = _longest_first(places.parts) if "{class}" in places.masks_named else [""]
    for path in files:
        below = plain(_below(path, places.masks))
        matches = [(_matched(places.masks_named, below, part), part) for part in parts]
        fitting = [(name, part) for name, part in matches if name is not None]
        known = [
            (name, part)
            for found_as, part in fitting
            for name in _all_ids(places.masks_named, below, part, found_as, images)
        ]
        if len(known) > 1:
            names = " or ".join(f"`{part}` of {name}" if part else name for name, part in known)
            problems.append(f"{path}: may be {names}")
        elif not fitting:
            continue
        else:
            name, part = (known or fitting)[0]
            if (name, part) in taken and not places.several:
                problems.append(f"{path}: is a second mask of `{name}` beside {taken[name, part]}")
                doubled.add(name)
            taken[name, part] = path
            found.setdefault(name, []).append(path)
    alone = {name: tuple(paths) for name, paths in found.items() if name not in doubled}
    return alone, problems, doubled


def _all_ids(
    pattern: str, below: str, part: str, longest: str, images: Mapping[str, Path]
) -> list[str]:
    """Return the images that a path may belong to: by `{id}_*.png`, `a_b_1.png` to `a_b` or to `a`."""
    before, _, after = pattern.partition("{id}")
    if "*" not in before and (
        "*" not in after or _matched(pattern, below, part, least=True) == longest
    ):
        return [longest] if longest in images else []
    texts = {below[i:j] for i in range(len(below)) for j in range(i + 1, len(below) + 1)}
    return [
        each for each in sorted(texts & images.keys()) if _matched(pattern, below, part, text=each)
    ]


def _matched(
    pattern: str, below: str, part: str = "", *, least: bool = False, text: str | None = None
) -> str | None:
    """Return the id that a path below a folder has by a pattern; None if it does not fit.

    Args:
        least: end `{id}` as early as the pattern allows, and not as late.
        text: the only id that fits.
    """
    texts, first = [], True
    id_ = ".+?" if least else ".+" if text is None else re.escape(text)
    for piece in re.split(r"(\{id\}|\{class\}|\*)", pattern):
        if piece == "{id}":
            texts.append(f"(?P<id>{id_})" if first else "(?P=id)")
            first = False
        elif piece == "{class}":
            texts.append("[ _]".join(re.escape(word) for word in re.split("[ _]", part)))
        elif piece == "*":
            texts.append("[^/]*")
        else:
            texts.append(re.escape(piece))
    match = re.fullmatch("".join(texts), below, re.IGNORECASE if part else 0)
    return match["id"] if match else None


def _longest_first(parts: Iterable[str]) -> list[str]:
    return sorted(parts, key=lambda part: (-len(part), part))


def _files(root: Path, endings: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield id and path of the files below a folder: the id is the path without its ending."""
    for folder, names in walk(root):
        for name in sorted(names):
            path = folder / name
            if path.suffix.lower() in endings:
                yield plain(path.relative_to(root).with_suffix("").as_posix()), path


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
