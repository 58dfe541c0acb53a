"""Warm-up, accumulation and averaging against closed forms and plain PyTorch."""

import pytest
import torch

from trainables.config import OptimizerConfig
from trainables.losses.accumulated import segmentation_shares
from trainables.optimization import Descent


def weight_after(updates, **config):
    """Return the weight of a one-parameter network whose gradient is always 1."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    descent = Descent(network, OptimizerConfig(weight_decay=0.0, clip_norm=None, **config))
    for _ in range(updates):
        descent.update([network.weight.sum()])
    return network.weight.item()


def test_the_first_update_of_a_warm_up_moves_nothing():
    assert weight_after(1, lr=0.1, warmup_updates=4) == 0


def test_the_warm_up_is_linear_and_then_constant():
    # With a constant gradient AdamW moves by the rate: 0, 1/4, 2/4, 3/4, 1, 1 times 0.1.
    assert weight_after(6, lr=0.1, warmup_updates=4) == pytest.approx(-0.35, rel=1e-5)


def test_without_warm_up_the_first_update_has_the_full_rate():
    assert weight_after(1, lr=0.1) == pytest.approx(-0.1, rel=1e-5)


def test_the_gradient_is_clipped_to_the_norm():
    # Two gradients, 30 and 0.3: clipped to 1 they differ from unclipped in Adam's second moment.
    def last_step(clip_norm):
        network = torch.nn.Linear(1, 1, bias=False)
        descent = Descent(network, OptimizerConfig(lr=0.1, weight_decay=0, clip_norm=clip_norm))
        norms = [descent.update([network.weight.sum() * size])[1] for size in (30.0, 0.3)]
        assert norms == pytest.approx([30.0, 0.3])
        return network.weight.item()

    assert last_step(1.0) != pytest.approx(last_step(None), abs=1e-4)


def test_the_average_follows_its_formula():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    config = OptimizerConfig(lr=0.1, weight_decay=0.0, clip_norm=None)
    descent = Descent(network, config, ema=True)
    average = 0.0
    for update in range(4):
        descent.update([network.weight.sum()])
        # decay = 1 - (1 + update)^(-3/4), zero on the first update
        decay = 1 - (1 + update) ** -0.75 if update else 0.0
        average = decay * average + (1 - decay) * network.weight.item()
    with descent.averaged():
        assert network.weight.item() == pytest.approx(average, rel=1e-5)
    assert network.weight.item() == pytest.approx(-0.4, rel=1e-4)


def test_accumulated_cross_entropy_is_that_of_the_whole_batch():
    # Micro-batches with unequal numbers of ignored pixels, where a mean of means would be wrong.
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 3, 4, 4, generator=generator)
    labels = torch.randint(0, 3, (5, 4, 4), generator=generator)
    labels[0] = 255
    labels[3, :2] = 255
    network = torch.nn.Conv2d(3, 3, 1)

    def gradient(micro_batch):
        network.zero_grad()
        shares = segmentation_shares(
            lambda x, _: network(x), images, labels, timestep=0, micro_batch=micro_batch
        )
        total = 0.0
        for share in shares:
            share.backward()
            total += share.item()
        return total, network.weight.grad.clone()

    reference = torch.nn.functional.cross_entropy(network(images), labels, ignore_index=255)
    for micro_batch in (None, 2, 1):
        loss, gradients = gradient(micro_batch)
        assert loss == pytest.approx(reference.item(), rel=1e-5)
        torch.testing.assert_close(gradients, gradient(None)[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_a_fused_step_moves_as_a_plain_one_does(clip_norm):
    # Gradients now above and now below the limit, warmed up, with weight decay.
    def trained(fused):
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)
        )
        config = OptimizerConfig(lr=0.05, warmup_updates=3, clip_norm=clip_norm, weight_decay=0.01)
        descent = Descent(network, config, fused=fused)
        norms = []
        for update in range(8):
            inputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(update))
            loss = (network(inputs) - 1).square().mean() * (10.0 if update % 2 else 0.01)
            norms.append(descent.update([loss])[1])
        return torch.cat([p.detach().flatten() for p in network.parameters()]), norms

    (plain, norms), (fused, other) = trained(fused=False), trained(fused=True)
    assert min(norms) < 1 < max(norms)
    assert other == pytest.approx(norms, rel=1e-5)
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)
