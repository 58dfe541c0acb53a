"""A loss or gradient that is not a number ends the run, and says where."""

import math
import pickle
from dataclasses import astuple

import pytest
import torch

from trainables.config import ComputeConfig, OptimizerConfig
from trainables.execute import execute
from trainables.loop import Diverged
from trainables.optimization import Descent
from trainables.pretraining.hybrid import HybridPretraining


def test_a_learning_rate_that_explodes_ends_the_run(tiny, tmp_path):
    # AdamW divides by the gradient's size, so the step is about the rate whatever the gradient.
    training = tiny.training("hybrid").model_copy(
        update={"optimizer": OptimizerConfig(lr=1e30, clip_norm=None), "updates": 50}
    )
    spec = tiny.spec("hybrid", training=training)
    places = tiny.places(tmp_path, "hybrid")
    with pytest.raises(Diverged, match=r"not finite at update \d+ \(last finite ") as caught:
        execute(spec, places)
    assert 0 < caught.value.update < 50
    assert not (places.artifacts / "result.json").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_loss_leaves_the_weights_alone(bad):
    network = torch.nn.Linear(2, 1)
    before = network.weight.detach().clone()
    descent = Descent(network, OptimizerConfig(lr=0.1))
    loss, norm = descent.update([network(torch.ones(1, 2)).sum() * bad])
    assert not (torch.isfinite(torch.tensor([loss, norm])).all())
    assert torch.equal(network.weight, before)


def test_the_cause_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(Diverged(17, 0.25)))
    assert (error.update, error.last_finite_loss) == (17, 0.25)
    assert "update 17 (last finite 0.25)" in str(error)


class SpoiltAt3(HybridPretraining):
    """A loss that is no number in the fourth update, and a device that trains by itself."""

    beside = True

    def loss_B(self, clean, labels, answer, snr_B):
        factor = math.nan if self.update == 3 else 1.0
        return factor * super().loss_B(clean, labels, answer, snr_B)


def spoilt(tiny, folder, **compute):
    training = tiny.training("hybrid").model_copy(update={"updates": 8, "log_every": 6})
    spec = tiny.spec("hybrid", training=training, compute=ComputeConfig(**compute))
    return SpoiltAt3(spec, tiny.places(folder, "hybrid"))


@pytest.mark.parametrize("fused", [False, True])
def test_without_a_look_at_every_loss_divergence_is_told_at_the_next_logged_one(
    tiny, tmp_path, fused
):
    run = spoilt(tiny, tmp_path, fused_adamw=fused)
    for _ in range(5):
        run.advance()
    with pytest.raises(Diverged) as caught:
        run.advance()
    assert caught.value.update == 3
    assert caught.value.last_finite_loss is not None


def test_no_state_is_kept_that_came_after_a_divergence(tiny, tmp_path):
    run = spoilt(tiny, tmp_path)
    for _ in range(3):
        run.advance()
    assert run.state_dict()["update"] == 3  # All is well so far.
    run.advance()
    with pytest.raises(Diverged, match="not finite at update 3"):
        run.state_dict()


def test_a_fused_step_of_a_bad_gradient_leaves_the_weights_alone_without_a_look():
    network = torch.nn.Linear(2, 1)
    before = network.weight.detach().clone()
    descent = Descent(network, OptimizerConfig(lr=0.1), fused=True)
    loss_and_norm = descent.update_unwatched([network(torch.ones(1, 2)).sum() * math.nan])
    assert loss_and_norm.isnan().all()
    assert torch.equal(network.weight, before)


def test_looking_later_changes_no_bit(tiny, tmp_path):
    class Beside(HybridPretraining):
        beside = True

    weights = []
    for number, task in enumerate((HybridPretraining, Beside)):
        training = tiny.training("hybrid").model_copy(update={"updates": 5, "log_every": 2})
        run = task(
            tiny.spec("hybrid", training=training), tiny.places(tmp_path / str(number), "hybrid")
        )
        while not run.done:
            run.advance()
        weights.append((run.final_weights(), [point[:3] for point in map(astuple, run.history)]))
    (plain, logged), (other, also) = weights
    assert logged == also
    assert all(torch.equal(plain[name], other[name]) for name in plain)
