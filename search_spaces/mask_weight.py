"""lambda, the weight of the mask term in the hybrid loss.

The paper took 1e-4 out of {1, 1e-1, ..., 1e-5} after "preliminary tests". The term it weighs is a mean
squared error, of the one-hot mask, like that of the image beside it; both carry the signal-to-noise
ratio of the step, which spans eight orders of magnitude. So orders of magnitude matter and steps within
one do not: logarithmic, from the paper's smallest value to its largest. The grid is the paper's.
"""

import optuna

from search_spaces import SearchSpace


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, float]:
    """Draw lambda log-uniformly."""
    low, high = space.bounds["lambda"]
    return {"lambda": trial.suggest_float("lambda", low, high, log=True)}


SPACE = SearchSpace(
    name="lambda",
    title="lambda",
    why="log-uniform over the range that the paper tried by hand, 1e-5 to 1; its grid for --sampler grid",
    settings={"lambda": "pretraining.mask_weight"},
    suggest=suggest,
    bounds={"lambda": (1e-5, 1.0)},
    grid={"lambda": (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)},
    reference={"lambda": 1e-4},
)
