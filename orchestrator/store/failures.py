"""Why a run failed, whether trying again can help, and which failures are one and the same."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Kind = Literal[
    "diverged", "bad_data", "out_of_memory", "error", "worker_lost", "preempted", "other_code"
]

# The same run would fail in the same way again: it is deterministic, and its data is what it is.
PERMANENT: frozenset[Kind] = frozenset({"diverged", "bad_data"})
OURS = ("orchestrator", "trainables", "search_spaces")
FRAME = re.compile(
    r'^ *File "(?P<path>[^"]+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE
)
LIBRARY = re.compile(r"[/\\](site-packages|lib[/\\]python\d)")
# What differs between two occurrences of one failure: numbers, addresses, keys, names in quotes.
VARYING = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8,}\b|\d+(\.\d+)?|'[^']*'|\"[^\"]*\"|`[^`]*`")
HEX_DIGITS = 10


@dataclass(frozen=True)
class Failure:
    """The cause of one failed attempt."""

    kind: Kind
    message: str
    traceback: str = ""
    attempt: int = 0
    site: str = ""
    """Where it was raised, as `trainables/loop.py:120 in checked`; empty if nobody knows."""

    @classmethod
    def of(cls, kind: Kind, message: str, traceback: str = "", attempt: int = 0) -> "Failure":
        """Return a failure with its site read from its traceback."""
        return cls(kind, message, traceback, attempt, site_of(traceback))

    @property
    def permanent(self) -> bool:
        """Whether no retry can help."""
        return self.kind in PERMANENT

    @cached_property
    def fingerprint(self) -> str:
        """The same for failures that are one: of one kind, from one place, in the same words."""
        function = re.sub(r":\d+", "", self.site)
        words = VARYING.sub("#", self.message.partition("\n")[0])
        whole = f"{self.kind}\n{function}\n{words}"
        return hashlib.sha256(whole.encode()).hexdigest()[:HEX_DIGITS]

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')}: {self.message}"


@dataclass(frozen=True)
class Group:
    """Runs that failed in one and the same way."""

    failure: Failure
    """Of the first of them."""
    keys: tuple[str, ...]

    @property
    def title(self) -> str:
        """What happened, where, in a line."""
        at = f", at {self.failure.site}" if self.failure.site else ""
        return f"{self.failure}{at}"


def site_of(traceback: str) -> str:
    """Return the innermost place of a traceback that is not in a library, or the innermost at all.

    Paths are cut to the package: where it is installed is nobody's business in a report.
    """
    frames = list(FRAME.finditer(traceback))
    if not frames:
        return ""
    own = [each for each in frames if not LIBRARY.search(each["path"])]
    innermost = (own or frames)[-1]
    return f"{_within(innermost['path'])}:{innermost['line']} in {innermost['function']}"


def grouped(failures: Mapping[str, Failure], order: Iterable[str]) -> list[Group]:
    """Return the failures of the keys in `order` as groups, the largest first."""
    by_fingerprint: dict[str, list[str]] = {}
    for key in order:
        if key in failures:
            by_fingerprint.setdefault(failures[key].fingerprint, []).append(key)
    groups = [Group(failures[keys[0]], tuple(keys)) for keys in by_fingerprint.values()]
    return sorted(groups, key=lambda group: -len(group.keys))


def _within(path: str) -> str:
    """Return a path from its package on; of a library, from its site-packages on."""
    parts = path.replace("\\", "/").split("/")
    for i, part in enumerate(parts[:-1]):
        if part in OURS:
            return "/".join(parts[i:])
    if "site-packages" in parts:
        return "/".join(parts[parts.index("site-packages") + 1 :])
    return parts[-1]
