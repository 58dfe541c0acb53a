"""Finding the files of a release under the folder that a user names, however it was unpacked.

A folder is recognised by the file names of the release, so that extra parent folders do not
matter. Two candidates are refused rather than guessed between, folders as well as files, unless two
files are the same to the last byte.
"""

import filecmp
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainables.data.errors import DatasetLayoutError
from trainables.data.info import Entry, Found

DEPTH = 6  # Folders below the named one that are looked into.


class Files(dict[str, Path]):
    """The file of each id."""

    def __init__(self, copies: Mapping[str, Sequence[Path]], unclear: Mapping[str, str]) -> None:
        super().__init__({name: paths[0] for name, paths in copies.items()})
        self.copies = copies
        """All files of each id, the same to the last byte."""
        self.unclear = unclear
        """Ids that have several files, which differ, and so none here; each with a problem to tell."""

    def of(self, others: "Files") -> "Files":
        """Return those that `others` has, or has too many of."""
        ids = others.keys() | others.unclear.keys()
        unclear = {name: problem for name, problem in self.unclear.items() if name in ids}
        return Files({name: each for name, each in self.copies.items() if name in ids}, unclear)


def one_each(candidates: Iterable[tuple[str, Path]]) -> Files:
    """Return the file of each id: of several with the same bytes the first, of several others none.

    Which of them a folder lists last must not decide what is read.
    """
    by_id: dict[str, list[Path]] = {}
    for name, path in candidates:
        by_id.setdefault(name, []).append(path)
    copies, unclear = {}, {}
    for name, paths in by_id.items():
        first, *others = sorted(paths)
        other = next((each for each in others if not _same_bytes(first, each)), None)
        if other is None:
            copies[name] = (first, *others)
        else:
            unclear[name] = f"{other}: is another file than {first}, and only one can be `{name}`"
    return Files(copies, unclear)


def folders(root: Path, pattern: str, *, named: Sequence[str] = ()) -> dict[Path, dict[str, Path]]:
    """Return the folders at or below `root` with matching files, and these by file name.

    Args:
        pattern: of whole file names; its first group is the id.
        named: folder names to accept, in any case; empty accepts all.
    """
    accepted = {name.lower() for name in named}
    found = {}
    for folder, names in walk(root):
        if accepted and folder.name.lower() not in accepted:
            continue
        files = {name: folder / name for name in names if _fits(pattern, name)}
        if files:
            found[folder] = files
    return found


def by_id(files: Iterable[Path], pattern: str, *, id_of: Callable[[str], str] = str) -> Files:
    """Return files by what the first group of a pattern finds in their names, made an id."""
    matches = ((_fits(pattern, path.name), path) for path in files)
    return one_each((id_of(match[1]), path) for match, path in matches if match)


def _fits(pattern: str, name: str) -> re.Match[str] | None:
    """Return how a whole name matches; `.PNG` is `.png`."""
    stem, dot, ending = name.rpartition(".")
    return re.fullmatch(pattern, name) or re.fullmatch(pattern, f"{stem}{dot}{ending.lower()}")


def only_folder(
    root: Path,
    pattern: str,
    what: str,
    *,
    named: Sequence[str] = (),
    id_of: Callable[[str], str] = str,
) -> Files:
    """Return the matching files by id of the one folder that has any.

    Args:
        id_of: makes an id of what the first group of the pattern found.

    Raises:
        DatasetLayoutError: if no folder or several have such files.
    """
    found = folders(root, pattern, named=named)
    if not found:
        where = f" in a folder named {' or '.join(named)}" if named else ""
        raise DatasetLayoutError(
            f"{root}: {what} are not here: no file like {_readable(pattern)}{where}{_instead(root)}"
        )
    files = found[one_place(root, sorted(found), what)]
    return by_id(files.values(), pattern, id_of=id_of)


def files_anywhere(root: Path, pattern: str, what: str) -> Files:
    """Return the matching files by id from all folders.

    Raises:
        DatasetLayoutError: if there is no such file.
    """
    found = folders(root, pattern)
    if not found:
        raise DatasetLayoutError(
            f"{root}: {what} are not here: no file like {_readable(pattern)}{_instead(root)}"
        )
    return by_id((path for files in found.values() for path in files.values()), pattern)


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


def unpaired(
    present: Mapping[str, Path], other: Mapping[str, Path], what: str, but: Collection[str] = ()
) -> list[str]:
    """Return one problem for each file whose id is not in `other`, where `what` was expected.

    Args:
        but: ids of which a problem is told already.
    """
    alone = sorted(present.keys() - other.keys() - set(but))
    return [f"{present[name]}: has no {what}" for name in alone]


def paired(images: Files, *masks: Files, image: str = "image") -> Found:
    """Return the images that have every mask, sorted by id; the other files are problems."""
    unclear = [problem for part in (images, *masks) for problem in part.unclear.values()]
    told = {name for part in (images, *masks) for name in part.unclear}
    alone = [problem for part in masks for problem in unpaired(images, part, "mask", told)]
    alone += [problem for part in masks for problem in unpaired(part, images, image, told)]
    problems = [*unclear, *alone]
    complete = [name for name in sorted(images) if all(name in part for part in masks)]
    entries = tuple(
        Entry(id=name, image=images[name], masks=tuple(part[name] for part in masks))
        for name in complete
    )
    every = images.keys() | {name for part in masks for name in part} | told
    return Found(entries, tuple(dict.fromkeys(problems)), lost=len(every) - len(entries))


def together(
    images: Files,
    masks: Files,
    place: Callable[[Path, str], Path | None],
    *,
    image: str = "image",
) -> Found:
    """Return the images with their masks as `paired` does, if the two lie in one place.

    Of two copies of a release under one root, the images of one are not to be laid beside the masks of
    the other.

    Args:
        place: path of a file and its id -> what an image and its mask have in common.
    """
    found = paired(images, masks, image=image)
    kept, problems = [], []
    for entry in found.entries:
        places = {place(path, entry.id): path for path in reversed(images.copies[entry.id])}
        both = (path for path in masks.copies[entry.id] if place(path, entry.id) in places)
        mask = next(both, None)
        if mask is None:
            away, first = entry.masks[0], entry.image
            problems.append(f"{away}: belongs to another copy than {first}; name one copy")
        else:
            kept.append(replace(entry, image=places[place(mask, entry.id)], masks=(mask,)))
    return Found(tuple(kept), (*found.problems, *problems), found.lost + len(problems))


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders with their file names, down to `DEPTH`; links are followed that far only."""
    if not root.is_dir():
        raise DatasetLayoutError(f"{root}: no such folder")
    for folder, below, names in os.walk(root, followlinks=True, onerror=_refuse):
        path = Path(folder)
        if len(path.relative_to(root).parts) >= DEPTH:
            below.clear()
        # A link to a folder that it lies in leads round in circles.
        below[:] = [name for name in below if not _leads_back(path / name)]
        # macOS archives carry a `__MACOSX` shadow with the same file names.
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        # And on other disks it leaves `._x.png` beside `x.png`.
        visible = [name for name in names if not name.startswith(".") and _is_file(path / name)]
        _require_utf8(path, visible)
        yield path, visible


def _refuse(error: OSError) -> None:
    """Raise a DatasetLayoutError for a folder that cannot be looked into: what is there is not known."""
    raise DatasetLayoutError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _leads_back(folder: Path) -> bool:
    if not folder.is_symlink():
        return False
    above = os.path.realpath(folder.parent)
    return f"{above}{os.sep}".startswith(f"{os.path.realpath(folder).rstrip(os.sep)}{os.sep}")


def _is_file(path: Path) -> bool:
    """Whether a path is a file, or a link that leads nowhere, which reading names; no pipe or device."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


def _require_utf8(folder: Path, names: Sequence[str]) -> None:
    """Raise a DatasetLayoutError at a name that is not UTF-8, and so can be no id."""
    for name in names:
        if any(0xD800 <= ord(character) <= 0xDFFF for character in name):
            shown = name.encode("ascii", "backslashreplace").decode("ascii")
            raise DatasetLayoutError(f"{folder}/{shown}: not a name in UTF-8; rename it")


def _instead(root: Path) -> str:
    """Return what a folder holds instead of what was looked for."""
    files = [
        (path / name).relative_to(root) for path, names in walk(root) for name in sorted(names)
    ]
    return (
        f"; it holds {len(files)} files, such as `{files[0]}`" if files else "; it holds no file"
    )


def _same_bytes(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False  # One of them cannot be read: not certainly the same.


def _readable(pattern: str) -> str:
    """Return a file pattern as people write it: `(CHNCXR_\\d{4})_mask\\.png` -> `CHNCXR_####_..."""
    plain = re.sub(r"\\d\{(\d)\}", lambda match: "#" * int(match[1]), pattern)
    plain = re.sub(r"\(\?:(\w+)[^)]*\)", r"\1", plain)  # The first of several endings.
    plain = plain.replace("[01]", "#").replace("\\d+", "#").replace(".+", "*")
    return re.sub(r"[()\\?]", "", plain)
