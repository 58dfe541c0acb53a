"""Do the report's 95 % intervals cover 95 % at three seeds?

Simulated differences between two methods with a part by seed, a part by test image and a rest, in
several proportions, each experiment judged by the report's own code; beside it what is usual, the
percentiles of a bootstrap over seeds and images.

    python benchmarks/coverage.py            # minutes; writes benchmarks/results/coverage.json
"""

import numpy as np
from recording import asked, keep

from orchestrator.report.statistics import SELECTIONS, Sample, estimate, select

SEEDS = 3
# Standard deviations in points, by seed, by image, and of the rest.
CASES = {
    "seeds alone": (1.0, 0.0, 0.0),
    "seeds and images": (1.0, 5.0, 2.0),
    "images more than seeds": (0.3, 10.0, 5.0),
    "neither: a rest for every seed and image": (0.0, 1.0, 10.0),
}


def main() -> None:
    parser = asked(__doc__)
    parser.add_argument("--experiments", type=int, default=4000)
    arguments = parser.parse_args()
    figures = {
        "seeds": SEEDS,
        "experiments": arguments.experiments,
        "percent_covered": {
            f"{name}, {images} test images": covered(spreads, images, arguments.experiments)
            for name, spreads in CASES.items()
            for images in (20, 90)
        },
    }
    keep("coverage", figures, dry_run=arguments.dry_run)


def covered(
    spreads: tuple[float, float, float], images: int, experiments: int
) -> dict[str, float]:
    """Return how often each interval holds the true difference, which is 0, in percent."""
    rng = np.random.default_rng(0)
    selections = select(images, seed=1)
    hits = {"report": 0, "percentile_bootstrap": 0}
    for _ in range(experiments):
        by_seed, by_image, rest = spreads
        scores_SN = (
            rng.normal(0, by_seed, (SEEDS, 1))
            + rng.normal(0, by_image, (1, images))
            + rng.normal(0, rest, (SEEDS, images))
        )
        draws_SB = scores_SN @ selections.T / images
        found = estimate(Sample((0, 1, 2), scores_SN.mean(1), draws_SB.mean(0), images))
        hits["report"] += found.low <= 0 <= found.high
        picked_BS = rng.integers(0, SEEDS, (SELECTIONS, SEEDS))
        means_B = np.take_along_axis(draws_SB.T, picked_BS, axis=1).mean(1)
        low, high = np.percentile(means_B, [2.5, 97.5])
        hits["percentile_bootstrap"] += low <= 0 <= high
    return {name: round(100 * float(count) / experiments, 1) for name, count in hits.items()}


if __name__ == "__main__":
    main()
