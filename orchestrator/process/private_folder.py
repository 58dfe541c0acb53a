"""Temporary folders that go with their process, however it ends.

Each is locked as long as its process lives. The lock tells others that it is in use, where a process id
would not: they may be in another container that shares the folder above. systemd leaves locked folders in
/tmp alone, too, however old they are. What a killed process left goes when the next one makes its own.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

NAME = "hdsweep-"


@contextlib.contextmanager
def private_folder(use: str, above: Path) -> Iterator[Path]:
    """Have a folder of the owner's only for one use; those that were left of the same use go first.

    Args:
        use: in its name, after `hdsweep-`.
        above: the folder that it is made in.
    """
    _remove_left(above, f"{NAME}{use}-")
    _remove_left(above, f"{NAME}new-")  # Of versions that named them so before they locked them.
    folder, lock = _locked(above, f"{NAME}{use}-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked(above: Path, prefix: str) -> tuple[Path, int]:
    """Return a new folder and the descriptor that locks it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=above))
        # Until it is locked it looks like one that was left, and another may be removing it.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.is_dir():
                return folder, lock
            os.close(lock)


def _remove_left(above: Path, prefix: str) -> None:
    """Remove the folders of our own processes that were killed: nobody locks them any more."""
    for folder in above.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid != os.getuid():
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
