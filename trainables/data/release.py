"""Finding the files of a release under the folder that a user names, however it was unpacked.

A folder is recognised by the file names of the release, so that extra parent folders do not
matter. Two candidates are refused rather than guessed between.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trainables.data.errors import DatasetLayoutError
from trainables.data.info import Entry, Found

DEPTH = 6  # Folders below the named one that are looked into.


def folders(root: Path, pattern: str, *, named: Sequence[str] = ()) -> dict[Path, dict[str, Path]]:
    """Return the folders at or below `root` with matching files, and these by id.

    Args:
        pattern: of whole file names; its first group is the id.
        named: folder names to accept, in any case; empty accepts all.
    """
    accepted = {name.lower() for name in named}
    found = {}
    for folder, names in walk(root):
        if accepted and folder.name.lower() not in accepted:
            continue
        matches = (re.fullmatch(pattern, name) for name in names)
        files = {match[1]: folder / match[0] for match in matches if match}
        if files:
            found[folder] = files
    return found


def only_folder(
    root: Path, pattern: str, what: str, *, named: Sequence[str] = ()
) -> dict[str, Path]:
    """Return the matching files by id of the one folder that has any.

    Raises:
        DatasetLayoutError: if no folder or several have such files.
    """
    found = folders(root, pattern, named=named)
    if not found:
        where = f" in a folder named {' or '.join(named)}" if named else ""
        raise DatasetLayoutError(
            f"{root}: {what} are not here: no file like {_readable(pattern)}{where}"
        )
    return found[one_place(root, sorted(found), what)]


def only_file_each(root: Path, pattern: str, what: str) -> tuple[dict[str, Path], list[str]]:
    """Return the matching files by id from all folders, and what occurs twice.

    Raises:
        DatasetLayoutError: if there is no such file.
    """
    found: dict[str, Path] = {}
    problems = []
    for _, files in sorted(folders(root, pattern).items()):
        for name, path in files.items():
            if name in found:
                problems.append(f"{path}: also {found[name]}")
            else:
                found[name] = path
    if not found:
        raise DatasetLayoutError(f"{root}: {what} are not here: no file like {_readable(pattern)}")
    return found, problems


def folders_named(root: Path, name: str) -> list[Path]:
    """Return the folders at or below `root` of this name, in any case, sorted."""
    wanted = name.lower()
    return sorted(folder for folder, _ in walk(root) if folder.name.lower() == wanted)


def one_place(root: Path, candidates: Sequence[Path], what: str) -> Path:
    """Return the only candidate.

    Raises:
        DatasetLayoutError: if there is none, or several between which the user must choose.
    """
    if not candidates:
        raise DatasetLayoutError(f"{root}: {what} are not here")
    if len(candidates) > 1:
        places = ", ".join(str(folder) for folder in candidates)
        raise DatasetLayoutError(f"{root}: {what} are in several places, name one: {places}")
    return candidates[0]


def unpaired(present: Mapping[str, Path], other: Mapping[str, Path], what: str) -> list[str]:
    """Return one problem for each file whose id is not in `other`, where `what` was expected."""
    alone = sorted(present.keys() - other.keys())
    return [f"{present[name]}: has no {what}" for name in alone]


def paired(images: Mapping[str, Path], *masks: Mapping[str, Path], image: str = "image") -> Found:
    """Return the images that have every mask, sorted by id; the other files are problems."""
    problems = [problem for part in masks for problem in unpaired(images, part, "mask")]
    problems += [problem for part in masks for problem in unpaired(part, images, image)]
    complete = [name for name in sorted(images) if all(name in part for part in masks)]
    entries = tuple(
        Entry(id=name, image=images[name], masks=tuple(part[name] for part in masks))
        for name in complete
    )
    every = images.keys() | {name for part in masks for name in part}
    return Found(entries, tuple(dict.fromkeys(problems)), lost=len(every) - len(entries))


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders with their file names, down to `DEPTH`; links are followed that far only."""
    if not root.is_dir():
        raise DatasetLayoutError(f"{root}: no such folder")
    for folder, below, names in os.walk(root, followlinks=True):
        path = Path(folder)
        if len(path.relative_to(root).parts) >= DEPTH:
            below.clear()
        # macOS archives carry a `__MACOSX` shadow with the same file names.
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        # And on other disks it leaves `._x.png` beside `x.png`.
        yield path, [name for name in names if not name.startswith(".")]


def _readable(pattern: str) -> str:
    """Return a file pattern as people write it: `(CHNCXR_\\d{4})_mask\\.png` -> `CHNCXR_####_..."""
    plain = re.sub(r"\\d\{(\d)\}", lambda match: "#" * int(match[1]), pattern)
    plain = re.sub(r"\(\?:(\w+)[^)]*\)", r"\1", plain)  # The first of several endings.
    plain = plain.replace("[01]", "#").replace("\\d+", "#").replace(".+", "*")
    return re.sub(r"[()\\?]", "", plain)
