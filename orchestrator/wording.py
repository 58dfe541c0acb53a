"""Durations and lists as people say them; shared by every view of a plan or a sweep."""

from collections.abc import Sequence

STAND_IN = "-like"  # What the names of generated datasets end with.
LEAST_LETTERS = 3
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


def cut(name: str, width: int) -> str:
    """Return as much of a dataset's name as there is room for: of generated data the end too.

    Where that would leave fewer letters than tell one name from another, the beginning alone.
    """
    letters = width - len(STAND_IN)
    if len(name) <= width or not name.endswith(STAND_IN) or letters < LEAST_LETTERS:
        return name[:width]
    return name[:letters] + STAND_IN


def shortened(label: str, width: int) -> str:
    """Return the label of a run in as many columns: what tells it from others, its end, is kept.

    `hybrid_ft montgomery-like seed 2` becomes `hybrid_ft montg-like seed 2`, `hybrid_ft seed 2` at last.
    """
    words = label.split(" ")
    spare = width - len(label)
    for number, word in sorted(enumerate(words), key=lambda each: -len(each[1])):
        if spare < 0 and word.endswith(STAND_IN):
            words[number] = cut(word, max(len(word) + spare, len(STAND_IN) + LEAST_LETTERS))
            spare += len(word) - len(words[number])
    if spare >= 0:
        return " ".join(words)
    end = " ".join(words[-2:]) if words[-2:-1] == ["seed"] else words[-1]
    start = " ".join(words)[: max(width - len(end) - 2, 0)]
    return f"{start}~ {end}" if start else end[:width]


def one_line(text: str) -> str:
    """Return a message from elsewhere as one line that no terminal can take for a command."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def in_short(names: Sequence[str], *, most: int) -> str:
    """Return `a, b and 7 more`: all names if they are few, else as many as `most`."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
