"""Does a cell agree with the published one? One stated rule for every cell.

Ours minus the published mean, with Welch's interval from both spreads (the paper has three seeds;
where it gives no spread, ours alone). Two one-sided tests at 5 % against a margin of two points
(Schuirmann 1987) come first: a difference that is certainly small is *consistent*, however
certain it is. What is neither certainly small nor certainly there is *underpowered*.
"""

import math
from typing import Literal, NamedTuple

from scipy import stats

from orchestrator.report.cells import Cell

MARGIN = 2.0  # Percent points.
SEEDS_OF_THE_PAPER = 3
RULE = (
    f"consistent: the 90 % interval of the difference from the paper lies within ±{MARGIN:g} "
    "points; higher, lower: else, the 95 % interval excludes 0; underpowered: neither"
)

Word = Literal["consistent", "higher", "lower", "underpowered", "missing", "not comparable", ""]


class Verdict(NamedTuple):
    """What is said of a cell, and from what."""

    word: Word
    difference: float | None = None
    """Ours minus the published mean, in percent points."""
    half: float | None = None
    """Half the width of its 95 % interval."""

    def __str__(self) -> str:
        if self.difference is None:
            return self.word
        half = f" ± {self.half:.1f}" if self.half is not None else ""
        return f"{self.word}: {self.difference:+.1f}{half}"


def verdict(cell: Cell) -> Verdict:
    """Return what can be said of a cell against the published one; nothing without a paper."""
    published = cell.published
    if not cell.in_study_of_paper:
        return Verdict("")
    if not cell.comparable or cell.random_backbone or published is None or published.mean is None:
        return Verdict("not comparable")
    if cell.mean is None:
        return Verdict("missing")
    difference = cell.mean - published.mean
    if cell.std is None:
        return Verdict("underpowered", difference)
    parts = [(cell.std**2 / cell.n, cell.n - 1)]
    if published.std is not None:
        parts.append((published.std**2 / SEEDS_OF_THE_PAPER, SEEDS_OF_THE_PAPER - 1))
    return _judged(difference, parts)


def _judged(difference: float, parts: list[tuple[float, int]]) -> Verdict:
    variance = sum(v for v, _ in parts)
    freedom = variance**2 / sum(v**2 / df for v, df in parts) if variance else 1.0
    error = math.sqrt(variance)
    half = float(stats.t.ppf(0.975, freedom)) * error
    word: Word = "underpowered"
    if abs(difference) + float(stats.t.ppf(0.95, freedom)) * error < MARGIN:
        word = "consistent"
    elif abs(difference) > half:
        word = "higher" if difference > 0 else "lower"
    return Verdict(word, difference, half)
