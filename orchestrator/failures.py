"""Why a run failed, and whether trying again can help."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["diverged", "bad_data", "out_of_memory", "error", "worker_lost"]

# The same run would fail in the same way again: it is deterministic, and its data is what it is.
PERMANENT: frozenset[Kind] = frozenset({"diverged", "bad_data"})


@dataclass(frozen=True)
class Failure:
    """The cause of one failed attempt."""

    kind: Kind
    message: str
    traceback: str = ""
    attempt: int = 0

    @property
    def permanent(self) -> bool:
        """Whether no retry can help."""
        return self.kind in PERMANENT

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')}: {self.message}"
