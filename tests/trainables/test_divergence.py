"""A loss or gradient that is not a number ends the run, and says where."""

import pickle

import pytest
import torch

from trainables.config import OptimizerConfig
from trainables.execute import execute
from trainables.loop import Diverged


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
    from trainables.optimization import Descent

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
