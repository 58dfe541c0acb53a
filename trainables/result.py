"""`result.json`: the outcome of a finished run. It is named, written and read here, and nowhere else.

A run writes it last, so that whoever sees the file has a whole result.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from trainables.atomic_files import write_atomically
from trainables.history import Point

RESULT_FILE = "result.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a run left, as it was written."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Result:
    """The outcome of a finished run."""

    key: str
    metrics: Mapping[str, float]
    """The final ones, by name."""
    updates: int
    seconds: float
    """Of training, over all attempts."""
    attempt: int = 1
    """The attempt that finished."""
    joules: float | None = None
    """That the GPU's driver counted; None where it counts none."""
    gpu_gb: float | None = None
    """Peak of GPU memory, in GB; None on a CPU."""
    resumed_at: int = 0
    """The update that this attempt went on from."""
    micro_batch: int | None = None
    """Images at once, where memory did not suffice for those of the spec."""
    history: tuple[Point, ...] = ()
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    """By path below the folder; not of `result.json` itself."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Versions and hardware that can change bits."""
    code: Mapping[str, str] | None = None
    """Hashes of the code that ran; None of runs from before they were recorded."""

    @property
    def last_values(self) -> dict[str, float]:
        """The last value of each metric, and how long it took, as `seconds`."""
        last = {p.name: p.value for p in sorted(self.history, key=lambda point: point.step)}
        return {**last, **self.metrics, "seconds": self.seconds}

    def write(self, folder: Path) -> None:
        """Write the result whole, as the last file of a folder.

        Raises:
            ValueError: if a number in it is not finite.
        """
        record = {
            "version": VERSION,
            "status": "finished",
            "key": self.key,
            "attempt": self.attempt,
            "metrics": dict(self.metrics),
            "updates": self.updates,
            "seconds": self.seconds,
            "joules": self.joules,
            "gpu_gb": self.gpu_gb,
            "resumed_at": self.resumed_at,
            "micro_batch": self.micro_batch,
            "history": [[p.name, p.step, p.value, p.time_ms] for p in self.history],
            "artifacts": {name: asdict(artifact) for name, artifact in self.artifacts.items()},
            "environment": dict(self.environment),
            "code": None if self.code is None else dict(self.code),
        }
        text = json.dumps(record, indent=1, allow_nan=False)
        write_atomically(folder / RESULT_FILE, text.encode())

    @classmethod
    def read(cls, folder: Path) -> "Result":
        """Return the result in a folder; what earlier versions did not write is as its default.

        Raises:
            OSError: if there is none, or it cannot be read.
            ValueError: if it is not a result.
        """
        record = from_json((folder / RESULT_FILE).read_bytes())
        try:
            optional = ("attempt", "joules", "gpu_gb", "resumed_at", "micro_batch", "code")
            return cls(
                key=record["key"],
                metrics=record["metrics"],
                updates=record["updates"],
                seconds=record["seconds"],
                history=tuple(Point(*row) for row in record["history"]),
                artifacts={
                    name: Artifact(sha256=each["sha256"], bytes=each["bytes"])
                    for name, each in record["artifacts"].items()
                },
                environment=record["environment"],
                **{name: record[name] for name in optional if name in record},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder / RESULT_FILE}: not the result of a run") from error
