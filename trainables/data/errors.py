"""What can be wrong with data from outside: each is one clear line for the person who has it.

All are `ValueError`s, never retried: the same file is as bad the second time.
"""

from collections.abc import Sequence
from pathlib import Path

MOST_LISTED = 100  # Bad files that a message names.


class DatasetError(ValueError):
    """A dataset cannot be prepared or used as asked."""


class DatasetLayoutError(DatasetError):
    """A download lacks files or folders, or has them in several places."""


class DatasetCountError(DatasetError):
    """A download does not hold as many labelled images as the release does."""


class BadImageError(DatasetError):
    """An image file cannot be decoded, or is not what its place in the release says."""


class BadReleaseError(DatasetError):
    """Files of a release cannot be used; all of them are named at once."""

    def __init__(
        self, where: str, problems: Sequence[str], *, listing: Path | None = None
    ) -> None:
        """Name the problems below a place, the rest of a long list being in the file `listing`."""
        self.where, self.problems = where, tuple(problems)
        files = "file" if len(problems) == 1 else "files"
        lines = "".join(f"\n  {problem}" for problem in problems[:MOST_LISTED])
        if len(problems) > MOST_LISTED:
            lines += f"\n  and {len(problems) - MOST_LISTED} more"
            lines += f"; all of them are in {listing}" if listing else ""
        super().__init__(f"{where}: {len(problems)} {files} cannot be used:{lines}")


class EmptyClassError(DatasetError):
    """No image of a dataset shows a class that it is said to have."""


class DatasetChangedError(DatasetError):
    """A prepared dataset is not, or no longer, the one that a run was planned with."""
