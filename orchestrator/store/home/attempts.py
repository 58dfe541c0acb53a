"""The folder of one attempt: what a worker leaves there, and whether it is whole.

`result.json` is written last and lists every artifact with size and SHA-256. A folder without it is
a run that never ended; one whose artifacts do not match it is damaged and counts as none.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULT = "result.json"
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
) -> dict[str, Any] | None:
    """Return the result in a folder if it is that run's and every artifact is as written.

    Args:
        elsewhere: bytes of a file that is not here but in an object store. Its content was hashed
            before it was carried there, and whoever reads it hashes it again.
    """
    try:
        result: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        whole = result["key"] == key and all(
            _is_whole(folder / name, record, elsewhere)
            for name, record in result["artifacts"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return result if whole else None


def last_values(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the last value of each metric of a result, and how long it took, as `seconds`."""
    history = sorted(result["history"], key=lambda point: int(point[1]))
    last = {name: value for name, _, value, *_ in history}
    return {**last, **result["metrics"], "seconds": result["seconds"]}


def _is_whole(path: Path, record: dict[str, Any], elsewhere: Callable[[Path], int | None]) -> bool:
    if not path.exists():
        return bool(elsewhere(path) == record["bytes"])
    if path.stat().st_size != record["bytes"]:
        return False
    with path.open("rb") as file:
        return bool(hashlib.file_digest(file, "sha256").hexdigest() == record["sha256"])
