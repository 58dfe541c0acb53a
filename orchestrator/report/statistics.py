"""Which differences would other seeds and other test images show? Honest about three seeds.

Scores vary with the seed and with the images they are taken on, and both are drawn anew by whoever
repeats the experiment. A difference between two methods is paired in both: same seeds, same
images. Its variance has a part for each (two crossed random effects):

    seeds    s^2 / S of the differences by seed, with S - 1 degrees of freedom
    images   variance of the difference over bootstrap selections of the images, with N - 1

Their sum goes with Student's t and the degrees of freedom of Satterthwaite (1946). The percentiles
of a bootstrap over three seeds would be far too narrow: `benchmarks/coverage.py` has both.

Shape suffixes: S seeds, B selections of images, M methods, T targets.
Units: percent points.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from orchestrator.report.images import Floats, ImageCounts
from trainables.config import Metric

SELECTIONS = 1000  # Bootstrap selections of the test images.
LEVEL = 0.95


@dataclass(frozen=True)
class Scored:
    """One method on one target: its score by seed, and on selections of the test images."""

    values: Mapping[int, float]
    draws: Mapping[int, Floats]
    """By seed, as (B,), the same selections for all methods of a target; may lack seeds."""
    images: int
    """In the test part; 0 if the runs left no counts."""

    def minus(self, other: Self) -> "Sample":
        """Return the paired differences to another method, over the seeds that both have."""
        seeds = [seed for seed in self.values if seed in other.values]
        values = np.array([self.values[s] - other.values[s] for s in seeds])
        drawn = bool(seeds) and all(s in self.draws and s in other.draws for s in seeds)
        if not drawn:
            return Sample(tuple(seeds), values, None, 0)
        draws = np.array([self.draws[s] - other.draws[s] for s in seeds])
        return Sample(tuple(seeds), values, draws.mean(0), self.images)


@dataclass(frozen=True)
class Sample:
    """Values over seeds, and the mean over seeds on selections of images."""

    seeds: tuple[int, ...]
    values_S: Floats
    draws_B: Floats | None
    images: int


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with what is known of its error."""

    value: float
    low: float | None
    """Of the 95 % interval; None if fewer than two seeds tell nothing of the error."""
    high: float | None
    p: float | None
    """Two-sided, of no difference at all."""
    seeds: int
    images: int
    """0 if the interval is about seeds alone."""

    @property
    def sign(self) -> int:
        """1 or -1 if the interval excludes 0; else 0."""
        if self.low is None or self.high is None:
            return 0
        return int(self.low > 0) - int(self.high < 0)

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:+.1f}"
        return f"{self.value:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def scored(
    values: Mapping[int, float],
    counts: Mapping[int, ImageCounts],
    metric: Metric,
    selections: Mapping[tuple[str, ...], Floats],
) -> Scored:
    """Return the scores of a cell; seeds whose images are not those of `selections` have no draws.

    Args:
        selections: weights_BN by the ids of the test images.
    """
    draws = {
        seed: each.scores(metric, selections[each.ids])
        for seed, each in counts.items()
        if each.ids in selections and seed in values
    }
    images = {len(counts[seed].ids) for seed in draws}
    return Scored(values, draws, images.pop() if len(images) == 1 else 0)


def select(images: int, *, seed: int) -> Floats:
    """Return how often each image is in each bootstrap selection, as (B, images)."""
    rng = np.random.default_rng(seed)
    weights: Floats = rng.multinomial(images, np.full(images, 1 / images), SELECTIONS).astype(
        float
    )
    return weights


def estimate(sample: Sample) -> Estimate | None:
    """Return the mean of a sample and its interval; None of no seed."""
    return estimate_mean([sample])


def estimate_mean(samples: Sequence[Sample]) -> Estimate | None:
    """Return the mean over several targets of a difference, over the seeds that all have.

    The targets' test images are drawn apart; a seed is one draw for all of them.
    """
    seeds = [s for s in samples[0].seeds if all(s in each.seeds for each in samples)]
    if not seeds:
        return None
    rows = [[each.values_S[each.seeds.index(s)] for s in seeds] for each in samples]
    by_seed_S = np.mean(rows, axis=0)
    value = float(by_seed_S.mean())
    images = min(each.images for each in samples)
    if len(seeds) < 2:
        return Estimate(value, None, None, None, 1, images)
    parts = [(float(by_seed_S.var(ddof=1)) / len(seeds), len(seeds) - 1)]
    for each in samples:
        if each.draws_B is not None and each.images > 1:
            # The variance over selections is that of a sample's, (N - 1) / N too small.
            variance = float(each.draws_B.var(ddof=1)) * each.images / (each.images - 1)
            parts.append((variance / len(samples) ** 2, each.images - 1))
    return _with_interval(value, parts, len(seeds), images)


def _with_interval(
    value: float, parts: Sequence[tuple[float, int]], seeds: int, images: int
) -> Estimate:
    variance = sum(v for v, _ in parts)
    if variance == 0:
        return Estimate(value, value, value, 1.0 if value == 0 else 0.0, seeds, images)
    freedom = variance**2 / sum(v**2 / df for v, df in parts)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    p = 2 * float(stats.t.sf(abs(value) / math.sqrt(variance), freedom))
    return Estimate(value, value - half, value + half, p, seeds, images)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the same order (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - place)))
        adjusted[index] = highest
    return adjusted


@dataclass(frozen=True)
class Highest:
    """The method with the highest mean of a column, and what the data says of the others."""

    method: str
    not_told: tuple[str, ...] | None
    """The methods that it is not told from; None where nothing can be tested, as with one seed."""


def highest(cells: Mapping[str, Scored]) -> Highest | None:
    """Return the method with the highest mean; None below two methods, or if one has no value.

    Each of the others is compared with it, Holm-adjusted for how many they are.
    """
    if len(cells) < 2 or not all(each.values for each in cells.values()):
        return None
    best = max(cells, key=lambda name: float(np.mean(list(cells[name].values.values()))))
    found = {
        name: estimate(cells[best].minus(each)) for name, each in cells.items() if name != best
    }
    p_values = {name: e.p for name, e in found.items() if e is not None and e.p is not None}
    if len(p_values) < len(found):
        return Highest(best, None)
    adjusted = zip(p_values, holm(list(p_values.values())), strict=True)
    return Highest(best, tuple(name for name, p in adjusted if p >= 1 - LEVEL))


def separated_best(cells: Mapping[str, Scored]) -> str | None:
    """Return the method with the highest mean if it is told from every other; else None."""
    found = highest(cells)
    return found.method if found is not None and found.not_told == () else None


def least_sign_test_p(seeds: int) -> float:
    """Return the smallest two-sided p-value that a sign test over so many seeds can have."""
    return float(stats.binomtest(seeds, seeds).pvalue) if seeds else 1.0


@dataclass(frozen=True)
class Ranks:
    """Where methods stand over all targets; 1 is best, ties share their mean rank."""

    mean: Mapping[str, float]
    low: Mapping[str, float]
    """2.5 % of the mean rank over resampled seeds and images."""
    high: Mapping[str, float]
    first: Mapping[str, float]
    """Part of the resamplings in which the mean rank is the best, in [0, 1]."""
    friedman_p: float | None
    """Of all methods being alike; None below three methods or two targets."""
    critical: float | None
    """Difference of two mean ranks that Nemenyi's test tells apart at 5 %."""
    targets: int


def rank(columns: Sequence[Mapping[str, Scored]], *, seed: int) -> Ranks | None:
    """Return the ranks of the methods that have a value on every target; None below two of them.

    Args:
        columns: the methods of each target.
    """
    names = [m for m in columns[0] if all(c.get(m) and c[m].values for c in columns)]
    if len(names) < 2:
        return None
    means_TM = np.array([[_mean(column[m]) for m in names] for column in columns])
    ranks_TM = stats.rankdata(-means_TM, axis=1)
    rng = np.random.default_rng(seed)
    drawn_MB = np.mean([_drawn_ranks(column, names, rng) for column in columns], axis=0)
    low, high = np.percentile(drawn_MB, [2.5, 97.5], axis=1)
    leads_MB = drawn_MB == drawn_MB.min(0)
    first = (leads_MB / leads_MB.sum(0)).mean(1)
    comparable = len(names) > 2 and len(columns) > 1

    def by_name(values: Floats) -> dict[str, float]:
        return dict(zip(names, map(float, values), strict=True))

    return Ranks(
        mean=by_name(ranks_TM.mean(0)),
        low=by_name(low),
        high=by_name(high),
        first=by_name(first),
        friedman_p=float(stats.friedmanchisquare(*means_TM.T).pvalue) if comparable else None,
        critical=critical_difference(len(names), len(columns)) if comparable else None,
        targets=len(columns),
    )


def critical_difference(methods: int, targets: int) -> float:
    """Return the difference of mean ranks that Nemenyi's test tells apart at 5 %.

    Source: Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 2006,
    section 3.2.2.
    """
    q = float(stats.studentized_range.ppf(LEVEL, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * targets))


def _mean(cell: Scored) -> float:
    return float(np.mean(list(cell.values.values())))


def _drawn_ranks(
    column: Mapping[str, Scored], names: Sequence[str], rng: np.random.Generator
) -> Floats:
    """Return the ranks of the methods on one target over resampled seeds and images, as (M, B)."""
    seeds = sorted({s for name in names for s in column[name].values})
    picked_BS = rng.choice(len(seeds), (SELECTIONS, len(seeds)))
    scores_MB = [_resampled(column[name], seeds, picked_BS) for name in names]
    ranks_MB: Floats = stats.rankdata(-np.array(scores_MB), axis=0)
    return ranks_MB


def _resampled(cell: Scored, seeds: Sequence[int], picked_BS: NDArray[np.int64]) -> Floats:
    """Return the mean over picked seeds on each selection; a seed that is missing is its mean."""
    mean = _mean(cell)
    rows_SB = np.array(
        [cell.draws.get(s, np.full(SELECTIONS, cell.values.get(s, mean))) for s in seeds]
    )
    chosen_BS: Floats = np.take_along_axis(rows_SB.T, picked_BS, axis=1)
    mean_B: Floats = chosen_BS.mean(1)
    return mean_B
