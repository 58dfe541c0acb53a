"""The folder of one attempt: what a worker leaves there, and whether it is whole.

`result.json` is written last and lists every artifact with size and SHA-256. A folder without it is
a run that never ended; one whose artifacts do not match it is damaged and counts as none.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainables.result import Artifact, Result

LABELS = "run.json"  # Written by the driver when it publishes: what the tracking database knows.


@dataclass(frozen=True)
class Attempt:
    """One attempt at one run, as handed to a worker."""

    key: str
    number: int
    """Counted from 1 over the life of the run; only the newest can publish."""
    run_id: str
    """Of MLflow."""
    artifacts: Path
    checkpoints: Path
    log: Path


def read_result(
    folder: Path, key: str, *, elsewhere: Callable[[Path], int | None] = lambda _: None
) -> Result | None:
    """Return the result in a folder if it is that run's and every artifact is as written.

    Args:
        elsewhere: bytes of a file that is not here but in an object store. Its content was hashed
            before it was carried there, and whoever reads it hashes it again.
    """
    try:
        result = Result.read(folder)
        whole = result.key == key and all(
            _is_whole(folder / name, artifact, elsewhere)
            for name, artifact in result.artifacts.items()
        )
    except (OSError, ValueError):
        return None
    return result if whole else None


def _is_whole(path: Path, artifact: Artifact, elsewhere: Callable[[Path], int | None]) -> bool:
    if not path.exists():
        return elsewhere(path) == artifact.bytes
    if path.stat().st_size != artifact.bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == artifact.sha256
