"""The learning rate of fine-tuning.

The paper fine-tunes everything with 2e-4. A pretrained network may want another rate than one that
starts from nothing, so a decade and a half to both sides is searched, logarithmically.
"""

import optuna

from search_spaces import SearchSpace


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, float]:
    """Draw the rate log-uniformly."""
    low, high = space.bounds["lr"]
    return {"lr": trial.suggest_float("lr", low, high, log=True)}


SPACE = SearchSpace(
    name="lr",
    title="fine-tuning learning rate",
    why="log-uniform, a factor of 30 to both sides of the paper's 2e-4",
    settings={"lr": "fine_tuning.optimizer.lr"},
    suggest=suggest,
    bounds={"lr": (2e-4 / 30, 2e-4 * 30)},
    reference={"lr": 2e-4},
)
