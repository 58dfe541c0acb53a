"""The statistics against scipy, printed worked examples, and simulation."""

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.images import ImageCounts
from orchestrator.report.statistics import (
    Sample,
    critical_difference,
    estimate,
    estimate_mean,
    holm,
    least_sign_test_p,
    rank,
    scored,
    select,
    separated_best,
)


def seeds_only(values):
    return scored(dict(enumerate(values)), {}, "jaccard", {})


def on_images(scores_SN):
    """Return a cell from the Jaccard index in percent of each seed and image."""
    images = scores_SN.shape[1]
    ids = tuple(map(str, range(images)))
    counts = {
        s: ImageCounts(ids, 100 * row[:, None], np.full((images, 1), 1e4))
        for s, row in enumerate(scores_SN)
    }
    values = {s: float(row.mean()) for s, row in enumerate(scores_SN)}
    return scored(values, counts, "jaccard", {ids: select(images, seed=3)})


def test_over_seeds_alone_it_is_the_paired_t_test():
    first, second = (88.0, 88.3, 88.4), (87.1, 87.9, 86.8)
    found = estimate(seeds_only(first).minus(seeds_only(second)))
    truth = stats.ttest_rel(first, second)
    interval = truth.confidence_interval(0.95)
    assert found.p == pytest.approx(truth.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.seeds, found.images) == (3, 0)


def test_with_seeds_that_agree_it_is_the_t_test_over_images():
    # All seeds give the same scores, so only the images vary; the bootstrap is within its noise.
    rng = np.random.default_rng(0)
    differences = rng.normal(1.0, 4.0, 60)
    first = on_images(np.tile(50 + differences, (3, 1)))
    found = estimate(first.minus(on_images(np.full((3, 60), 50.0))))
    truth = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((truth.low, truth.high), abs=0.12)
    assert found.images == 60


def test_the_two_parts_add_as_in_welchs_test():
    # Welch's interval has the same form: two variances of means, each with its degrees of freedom.
    seeds, images = np.array([1.0, 2.0, 3.5]), np.random.default_rng(1).normal(0, 3, 8)
    draws = np.sqrt(images.var(ddof=1) * 7 / 64) * np.array([-1.0, 1.0] * 500)
    draws *= np.sqrt(999 / 1000)  # Of which the sample variance is then exactly that.
    found = estimate(Sample((0, 1, 2), seeds, draws, 8))
    truth = stats.ttest_ind(seeds, images - images.mean(), equal_var=False)
    interval = truth.confidence_interval(0.95)
    assert found.p == pytest.approx(truth.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_one_seed_tells_nothing_of_the_error():
    found = estimate(seeds_only((88.0,)).minus(seeds_only((87.0,))))
    assert (found.value, found.low, found.high, found.p, found.sign) == (1.0, None, None, None, 0)
    assert estimate(seeds_only(()).minus(seeds_only((87.0,)))) is None


def test_only_seeds_of_both_are_paired():
    first, second = seeds_only((1.0, 2.0, 4.0)), scored({1: 1.5, 2: 2.0}, {}, "jaccard", {})
    assert first.minus(second).seeds == (1, 2)
    assert list(first.minus(second).values_S) == [0.5, 2.0]


def test_the_mean_over_targets_pairs_by_seed():
    one, two = np.array([1.0, 2.0, 3.0]), np.array([4.0, 1.0, 2.5])
    found = estimate_mean([Sample((0, 1, 2), v, None, 0) for v in (one, two)])
    truth = stats.ttest_1samp((one + two) / 2, 0)
    assert (found.value, found.p) == pytest.approx(
        (truth.statistic * truth._standard_error, truth.pvalue)
    )


def test_holm_by_hand():
    # Sorted .01, .03, .04 times 3, 2, 1 is .03, .06, .04; never below the one before.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_the_critical_difference_of_demsar():
    # Table 5 of the paper: q = 2.728 for five classifiers, 3.164 for ten, at 5 %.
    assert critical_difference(5, 30) == pytest.approx(2.728 * (5 * 6 / 180) ** 0.5, abs=1e-3)
    assert critical_difference(10, 14) == pytest.approx(3.164 * (110 / 84) ** 0.5, abs=1e-3)


def test_three_seeds_cannot_pass_a_sign_test():
    # All three on one side has probability 1/8, and as much on the other.
    assert least_sign_test_p(3) == pytest.approx(0.25)


def test_ranks_by_hand():
    columns = [
        {"a": seeds_only((90.0, 91.0)), "b": seeds_only((80.0, 81.0)), "c": seeds_only((70, 71))},
        {"a": seeds_only((90.0, 91.0)), "b": seeds_only((60.0, 61.0)), "c": seeds_only((70, 71))},
        {"a": seeds_only((90.0, 91.0)), "b": seeds_only((70.0, 71.0)), "c": seeds_only((70, 71))},
    ]
    found = rank(columns, seed=0)
    assert found.mean == pytest.approx({"a": 1.0, "b": (2 + 3 + 2.5) / 3, "c": (3 + 2 + 2.5) / 3})
    assert found.first == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert (found.low["a"], found.high["a"]) == (1.0, 1.0)
    truth = stats.friedmanchisquare([90.5, 90.5, 90.5], [80.5, 60.5, 70.5], [70.5, 70.5, 70.5])
    assert found.friedman_p == pytest.approx(truth.pvalue)


def test_methods_without_a_value_everywhere_have_no_rank():
    columns = [{"a": seeds_only((1.0,)), "b": seeds_only((2.0,)), "c": seeds_only(())}] * 2
    assert set(rank(columns, seed=0).mean) == {"a", "b"}
    assert rank([{"a": seeds_only((1.0,))}], seed=0) is None


def test_the_best_of_two_alike_is_not_separated():
    rng = np.random.default_rng(2)
    base = rng.normal(60, 8, (3, 50))
    cells = {name: on_images(base + rng.normal(0, 2, (3, 50))) for name in "abc"}
    assert separated_best(cells) is None
    cells["c"] = on_images(base + 5 + rng.normal(0, 2, (3, 50)))
    assert separated_best(cells) == "c"


@pytest.mark.parametrize(("seed_spread", "image_spread"), [(1.0, 0.5), (1.0, 5.0)])
def test_the_interval_covers_what_it_says_at_three_seeds(seed_spread, image_spread):
    # 500 experiments: 95 % is 475 +- 5; `benchmarks/coverage.py` has the figures over many more.
    rng, images, covered = np.random.default_rng(4), 30, 0
    selections = select(images, seed=0)
    for _ in range(500):
        scores_SN = (
            rng.normal(0, seed_spread, (3, 1))
            + rng.normal(0, image_spread, (1, images))
            + rng.normal(0, image_spread, (3, images))
        )
        draws = selections @ scores_SN.mean(0) / images
        found = estimate(Sample((0, 1, 2), scores_SN.mean(1), draws, images))
        covered += found.low <= 0 <= found.high
    assert 460 <= covered <= 495


def test_the_mean_iou_of_selected_images():
    counts = ImageCounts(
        ("a", "b"), np.array([[3.0, 0.0], [1.0, 2.0]]), np.array([[4.0, 0], [2, 2]])
    )
    weights = np.array([[1.0, 1.0], [2.0, 0.0]])
    # Both images: 4/6 and 2/2. The first twice: 6/8, and a class that never occurs scores 0.
    expected = [100 * (4 / 6 + 1) / 2, 100 * (6 / 8) / 2]
    assert counts.scores("miou_ledm", weights) == pytest.approx(expected)
