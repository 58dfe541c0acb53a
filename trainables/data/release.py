"""Finding the files of a release under the folder that a user names, however it was unpacked.

A folder is recognised by the file names of the release, so that extra parent folders do not
matter. Two candidates are refused rather than guessed between.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trainables.data.errors import DatasetLayoutError

DEPTH = 6  # Folders below the named one that are looked into.
NAMED = 5  # Missing files that a message lists.


def folders(root: Path, pattern: str, *, named: Sequence[str] = ()) -> dict[Path, dict[str, Path]]:
    """Return the folders at or below `root` with matching files, and these by id.

    Args:
        pattern: of whole file names; its first group is the id.
        named: folder names to accept, in any case; empty accepts all.
    """
    accepted = {name.lower() for name in named}
    found = {}
    for folder, names in _walk(root):
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
    if len(found) > 1:
        places = ", ".join(str(folder) for folder in sorted(found))
        raise DatasetLayoutError(f"{root}: {what} are in several places, name one: {places}")
    return next(iter(found.values()))


def counterparts(wanted: Mapping[str, Path], present: Mapping[str, Path], what: str) -> None:
    """Check that every id of `wanted` is in `present`.

    Raises:
        DatasetLayoutError: naming the files that stand alone.
    """
    missing = sorted(wanted.keys() - present.keys())
    if not missing:
        return
    names = ", ".join(wanted[name].name for name in missing[:NAMED])
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    folder = wanted[missing[0]].parent
    raise DatasetLayoutError(f"{folder}: {len(missing)} {what}: {names}{more}")


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders with their file names, down to `DEPTH`; links are followed that far only."""
    if not root.is_dir():
        raise DatasetLayoutError(f"{root}: no such folder")
    for folder, below, names in os.walk(root, followlinks=True):
        path = Path(folder)
        if len(path.relative_to(root).parts) >= DEPTH:
            below.clear()
        # macOS archives carry a `__MACOSX` shadow with the same file names.
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        yield path, names


def _readable(pattern: str) -> str:
    """Return a file pattern as people write it: `(CHNCXR_\\d{4})_mask\\.png` -> `CHNCXR_####_..."""
    plain = re.sub(r"\\d\{(\d)\}", lambda match: "#" * int(match[1]), pattern)
    return re.sub(r"[()\\]", "", plain.replace("[01]", "#"))
