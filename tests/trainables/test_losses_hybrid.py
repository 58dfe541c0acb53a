"""The pretraining losses, by hand and by their algebra (method.md 2.2)."""

import pytest
import torch

from trainables.diffusion.schedule import Schedule
from trainables.losses.diffusion import diffusion_loss
from trainables.losses.hybrid import hybrid_loss


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 8, 8, generator=generator) * 2 - 1
    labels = torch.randint(0, 2, (4, 8, 8), generator=generator)
    masks = torch.nn.functional.one_hot(labels, num_classes=2).permute(0, 3, 1, 2).float()
    return images, masks


def test_a_fresh_network_scores_image_power_plus_weight_over_classes(batch):
    # The head starts at zero, so the answer is zero; a one-hot vector has mean square 1/K.
    images, masks = batch
    loss_B = hybrid_loss(images, masks, torch.zeros(4, 5, 8, 8), torch.ones(4), mask_weight=0.3)
    expected_B = images.square().flatten(1).mean(1) + 0.3 / 2
    torch.testing.assert_close(loss_B, expected_B)


@pytest.mark.parametrize(
    ("t", "weight", "expected"),
    [
        # (0.01 + 0.04 + 0.09) / 3 = 0.0466667 and (0.04 + 0.09) / 2 = 0.065, times SNR(t).
        (0, 1e-4, 466.6850),
        (50, 1e-4, 1.506588),
        (500, 1e-4, 0.003937327),
        (999, 1e-4, 1.8837e-6),
        (0, 1.0, 1116.555),
    ],
)
def test_one_pixel_by_hand(t, weight, expected):
    clean = torch.tensor([0.5, -0.5, 1.0]).reshape(1, 3, 1, 1)
    mask = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    answer = torch.tensor([0.4, -0.3, 0.7, 0.8, 0.3]).reshape(1, 5, 1, 1)
    loss = hybrid_loss(clean, mask, answer, Schedule().snr[t][None], mask_weight=weight)
    assert loss.item() == pytest.approx(expected, rel=3e-5)


def test_the_image_term_is_the_error_of_the_noise():
    generator = torch.Generator().manual_seed(0)
    clean, noise, guess = (
        torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    schedule, t = Schedule(), torch.tensor([5, 50, 200, 400])
    noised = schedule.add_noise(clean, noise, t)
    alpha, sigma = (table[t][:, None, None, None] for table in (schedule.alpha, schedule.sigma))
    answer = (noised - sigma * guess) / alpha
    loss_B = diffusion_loss(clean, answer, schedule.snr[t])
    torch.testing.assert_close(
        loss_B.double(), (noise - guess).square().flatten(1).mean(1), rtol=1e-3, atol=0
    )


def test_without_mask_channels_hybrid_is_diffusion(batch):
    images, masks = batch
    answer, snr = torch.randn(4, 5, 8, 8), torch.rand(4)
    hybrid = hybrid_loss(images, masks, answer, snr, mask_weight=0.0)
    torch.testing.assert_close(diffusion_loss(images, answer[:, :3], snr), hybrid)


def test_mask_channels_learn_nothing_when_the_weight_is_zero(batch):
    images, masks = batch
    answer = torch.randn(4, 5, 8, 8, requires_grad=True)
    hybrid_loss(images, masks, answer, torch.ones(4), mask_weight=0.0).sum().backward()
    assert answer.grad[:, 3:].abs().max() == 0
    assert answer.grad[:, :3].abs().min() > 0


def test_the_gradient_of_the_mask_is_proportional_to_its_weight(batch):
    images, masks = batch
    answer = torch.randn(4, 5, 8, 8)

    def gradient(weight):
        leaf = answer.clone().requires_grad_()
        hybrid_loss(images, masks, leaf, torch.ones(4), mask_weight=weight).sum().backward()
        return leaf.grad

    small, large = gradient(1e-3), gradient(1e-1)
    torch.testing.assert_close(large[:, 3:], 100 * small[:, 3:])
    assert torch.equal(large[:, :3], small[:, :3])


def test_losses_of_reduced_answers_are_computed_in_float32(batch):
    images, masks = batch
    answer = torch.randn(4, 5, 8, 8).bfloat16()
    loss_B = hybrid_loss(images, masks, answer, torch.ones(4), mask_weight=0.1)
    assert loss_B.dtype == torch.float32
    exact_B = hybrid_loss(images, masks, answer.float(), torch.ones(4), mask_weight=0.1)
    assert torch.equal(loss_B, exact_B)


def test_an_answer_without_mask_channels_is_refused(batch):
    images, masks = batch
    with pytest.raises(ValueError, match=r"3 image \+ 2 mask channels, got 3"):
        hybrid_loss(images, masks, images, torch.ones(4), mask_weight=0.1)


def test_an_answer_with_mask_channels_is_refused_by_the_diffusion_loss(batch):
    images, _ = batch
    with pytest.raises(ValueError, match="cannot be compared"):
        diffusion_loss(images, torch.zeros(4, 5, 8, 8), torch.ones(4))
