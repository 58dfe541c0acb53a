"""What a run logs while it trains. No torch here: whoever reads histories needs none."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """One logged value. `step` counts finished updates; `time_ms` is Unix time."""

    name: str
    step: int
    value: float
    time_ms: int
