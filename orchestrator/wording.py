"""Durations and lists as people say them; shared by every view of a plan or a sweep."""

from collections.abc import Sequence

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def duration(seconds: float) -> str:
    """Return a length of time with as many digits as a forecast deserves: `4 s`, `1.2 min`."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.1f} min"
    if seconds < 3 * DAY:
        return f"{seconds / HOUR:.1f} h"
    return f"{seconds / DAY:.1f} days"


def clock(seconds: float) -> str:
    """Return a length of time as a stopwatch shows it: `4:12`, `1:04:12`."""
    minutes, rest = divmod(int(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def one_line(text: str) -> str:
    """Return a message from elsewhere as one line that no terminal can take for a command."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def in_short(names: Sequence[str], *, most: int) -> str:
    """Return `a, b and 7 more`: all names if they are few, else as many as `most`."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
