"""A value that was worked out from a file and holds until the file changes.

Hashing gigabytes takes seconds and is asked for by every plan; size and time of change tell whether the
file is still the one that was hashed.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from trainables.atomic_files import temporary_beside


def remembered(path: Path, memory: Path, work_out: Callable[[], str]) -> str:
    """Return what `work_out` returns, from the file `memory` if `path` has not changed since.

    What cannot be written, as beside a shared, read-only file, is worked out again each time.
    """
    status = path.stat()
    now = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    try:
        known = json.loads(memory.read_bytes())
        if {name: known[name] for name in now} == now and isinstance(known["value"], str):
            return known["value"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # Nothing remembered, or nothing readable.
    value = work_out()
    fresh = temporary_beside(memory)
    try:
        with open(
            os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as file:
            json.dump({**now, "value": value}, file)
        fresh.rename(memory)
    except OSError:
        fresh.unlink(missing_ok=True)
    return value
