"""lambda and the fine-tuning learning rate together.

lambda is drawn from the paper's grid and not from a range, so that trials of the same lambda share one
pretraining, which is nearly all of what a trial costs: many rates are then tried for the price of a few
pretrainings.
"""

import optuna

from search_spaces import SearchSpace, learning_rate, mask_weight

assert mask_weight.SPACE.grid is not None
GRID = tuple(mask_weight.SPACE.grid["lambda"])


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, float]:
    """Draw lambda from the grid and the rate log-uniformly."""
    low, high = space.bounds["lr"]
    return {
        "lambda": float(trial.suggest_categorical("lambda", GRID)),
        "lr": trial.suggest_float("lr", low, high, log=True),
    }


SPACE = SearchSpace(
    name="joint",
    title="lambda and fine-tuning learning rate",
    why="lambda from the paper's grid, so that trials share its pretraining; the rate as in `lr`",
    settings={**mask_weight.SPACE.settings, **learning_rate.SPACE.settings},
    suggest=suggest,
    bounds=learning_rate.SPACE.bounds,
    reference={**mask_weight.SPACE.reference, **learning_rate.SPACE.reference},
)
