"""Paths that cannot be used: what is wrong with one, in one line, whoever came upon it.

Verbs say best themselves what a path is for. What they do not foresee (another's folder, a loop of links, a
name that is too long, a disk that is read-only) ends here, and never in a traceback.
"""

import errno
import os
from pathlib import Path

from orchestrator.errors import InputError, chain

OF_PATHS = frozenset(
    {
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.ESTALE,
        errno.ENXIO,
        errno.ENODEV,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.EXDEV,
        errno.EINVAL,
        errno.EBUSY,
        errno.ETXTBSY,
        errno.EMLINK,
    }
)
LONGEST_SHOWN = 200  # Characters of a path.


def told(error: BaseException) -> InputError | None:
    """Return what to tell of an error of the operating system that names a path; None if it is another."""
    for inner in chain(error):
        if isinstance(inner, OSError) and inner.filename is not None and inner.errno in OF_PATHS:
            path = os.fsdecode(inner.filename) if not isinstance(inner.filename, int) else ""
            return InputError(
                f"`{shown(path)}` cannot be used: {inner.strerror}", hint=_hint(inner)
            )
        if isinstance(inner, ValueError) and "null byte" in str(inner):
            return InputError("a path with a NUL character cannot be used")
    return None


def shown(path: str | Path) -> str:
    """Return a path for a message, without the middle of one that is too long to be read."""
    text = str(path)
    half = LONGEST_SHOWN // 2
    return text if len(text) <= LONGEST_SHOWN else f"{text[:half]}...{text[-half:]}"


def _hint(error: OSError) -> str | None:
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return (
                "it is another user's, or its permissions keep you out: `ls -ld` shows whose it is"
            )
        case errno.EROFS:
            return (
                "what is read-only can be looked at: name another folder for what is to be written"
            )
        case errno.ENOSPC | errno.EDQUOT:
            return "free some space there, or name another folder"
    return None
