"""Which classes each image of a prepared dataset shows, `contents.json`; no NumPy or Arrow.

What a plan can know of the parts of a split before anything is trained, without opening an image.
"""

from pathlib import Path

from pydantic import ValidationError

from trainables.bounds import Byte
from trainables.config import Frozen

CONTENTS_FILE = "contents.json"


class Contents(Frozen):
    """The images of a prepared dataset, in its order."""

    ids: tuple[str, ...]
    official_split: tuple[str, ...]
    """`train` or `test` where the release fixes a split; else empty."""
    classes: tuple[tuple[Byte, ...], ...]
    """Classes of which an image has a pixel, ascending."""


def read_contents(folder: Path) -> Contents | None:
    """Return what is noted of the dataset in `folder`; None if nothing is, as in older homes."""
    try:
        return Contents.model_validate_json((folder / CONTENTS_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
