"""What a run does when nobody says otherwise, against the numbers of the paper, not of our classes."""

import pytest
import torch

from trainables.config import FineTuningConfig, LedmConfig, PretrainingConfig
from trainables.optimization import Descent

# method.md 2.3, 3.1 and 4, by the names of our fields.
PRETRAINING = {
    "batch": 64,
    "updates": 40_000,
    "mask_weight": 1e-4,
    "ema": False,
    "hold_out": 0.1,
    "evaluate_every": 1000,
}
FINE_TUNING = {
    "train_images": 20,
    "batch": 12,
    "timestep": 0,
    "patience": 20,
    "max_epochs": 1000,
}
LEDM = {
    "steps": (50, 150, 250),
    "blocks": (5, 6, 7, 8, 12),
    "batch_pixels": 64,
    "lr": 1e-3,
    "max_epochs": 100,
    "first_stopping_epoch": 4,
    "patience_iterations": 50,
    "min_class_pixels": 20,
    "max_iterations": None,
}


@pytest.mark.parametrize(
    ("config", "expected"),
    [(PretrainingConfig(), PRETRAINING), (FineTuningConfig(), FINE_TUNING), (LedmConfig(), LEDM)],
    ids=["pretraining", "fine-tuning", "ledm"],
)
def test_the_settings_are_those_of_the_paper(config, expected):
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("config", "rate", "warmup"),
    [(PretrainingConfig(), 1e-4, 2000), (FineTuningConfig(), 2e-4, 0)],
    ids=["pretraining", "fine-tuning"],
)
def test_the_optimizer_is_that_of_the_paper(config, rate, warmup):
    descent = Descent(torch.nn.Linear(1, 1), config.optimizer)
    assert isinstance(descent._optimizer, torch.optim.AdamW)
    (group,) = descent._optimizer.param_groups
    assert (group["betas"], group["weight_decay"], group["eps"]) == ((0.95, 0.99), 1e-6, 1e-8)
    assert group["initial_lr"] == rate
    assert config.optimizer.warmup_updates == warmup
    assert config.optimizer.clip_norm == 1.0
