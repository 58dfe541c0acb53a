"""What lies at a path that a user names: pipes and devices must not be waited for."""

import os
import stat
from pathlib import Path


def odd_kind(path: Path) -> str | None:
    """Return what a path leads to if that is neither a file nor a folder; None otherwise, or if nothing is there.

    Opening a pipe waits for whoever writes to it, which may be for ever; a device has no end.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return "a device"
    return None
