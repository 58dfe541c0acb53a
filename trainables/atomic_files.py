"""Files that appear whole or not at all, whoever else writes them in the same moment."""

import os
import secrets
from pathlib import Path


def temporary_beside(path: Path) -> Path:
    """Return a name in the folder of `path` for what will be renamed to it.

    Random, since a process id does not tell two writers apart: those of containers that share a folder
    often have the same.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that `path` has its old content or the new one, even over a power cut."""
    temporary = temporary_beside(path)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Make what a file holds, or the renames in a folder, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
