"""What can be wrong with data from outside: each is one clear line for the person who has it.

All are `ValueError`s, never retried: the same file is as bad the second time.
"""


class DatasetError(ValueError):
    """A dataset cannot be prepared or used as asked."""


class DatasetLayoutError(DatasetError):
    """A download lacks files or folders, or has them in several places."""


class DatasetCountError(DatasetError):
    """A download does not hold as many labelled images as the release does."""


class BadImageError(DatasetError):
    """An image file cannot be decoded, or is not what its place in the release says."""


class DatasetChangedError(DatasetError):
    """A prepared dataset is not, or no longer, the one that a run was planned with."""
