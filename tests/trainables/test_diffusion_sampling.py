"""Propositions 1 and 2, by closed forms: predictors whose conditional expectations are known.

The letters A to E are those of method.md 2.5. Everything runs diffusers' schedulers through
`joint_path`, as sampling from a network does; images have one pixel.
"""

import pytest
import torch
from diffusers import DDPMScheduler
from torch import nn

from trainables.diffusion.sampling import dpm_solver, joint_path, sample_joint
from trainables.diffusion.schedule import alphas_cumprod

KEPT = alphas_cumprod()
ALPHA, SIGMA = KEPT.sqrt().float(), (1 - KEPT).sqrt().float()
LAST = 999


def at(t_B):
    """Return alpha and sigma at each image's step, to be broadcast over channels and pixels."""
    return ALPHA[t_B][:, None, None, None], SIGMA[t_B][:, None, None, None]


def column(values):
    """Return one value per image, as one channel of one pixel."""
    return torch.as_tensor(values, dtype=torch.float32).reshape(-1, 1, 1, 1)


def normal(count, seed=0):
    return torch.randn(count, 1, 1, 1, generator=torch.Generator().manual_seed(seed))


def path(predictor, x, y, scheduler):
    start = torch.cat([x, column(y).expand_as(x)], dim=1)
    return list(joint_path(predictor, start, scheduler, image_channels=1))


def ddpm():
    scheduler = DDPMScheduler(
        beta_start=1e-4, beta_end=0.02, prediction_type="sample", clip_sample=False
    )
    scheduler.set_timesteps(1000)
    return scheduler


# --- A: a constant mask ------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [7, 100])
def test_a_constant_mask_decays_from_its_start_to_the_constant(order, steps):
    def predict(x, t_B):
        alpha, _ = at(t_B)
        return torch.cat([alpha * x, torch.full_like(x, 0.7)], dim=1)

    states = path(predict, normal(8), 3.0, dpm_solver(steps, order=order))
    for state in states[:-1]:
        decay = SIGMA[state.t] / SIGMA[LAST]
        expected = decay * 3 + (ALPHA[state.t] - decay * ALPHA[LAST]) * 0.7
        torch.testing.assert_close(
            state.z_BNHW[:, 1], expected.expand(8, 1, 1), atol=5e-6, rtol=1e-5
        )
    assert (states[-1].z_BNHW[:, 1] - 0.7).abs().max() < 1e-6


# --- B: a Gaussian image and an affine mask ----------------------------------------------------

M, S, A, B = 0.3, 0.5, 1.7, -0.4


def gaussian(x, t_B):
    alpha, sigma = at(t_B)
    image = M + alpha * S**2 / (alpha**2 * S**2 + sigma**2) * (x - alpha * M)
    return torch.cat([image, A * image + B], dim=1)


def end_of_flow(x):
    """Return the end of the probability-flow equation from x_T."""
    alpha, sigma = ALPHA[LAST], SIGMA[LAST]
    return M + S * (x - alpha * M) / (alpha**2 * S**2 + sigma**2).sqrt()


def test_b_the_closed_form_is_the_published_one():
    ends = end_of_flow(torch.tensor([-2.0, 0.0, 1.0, 2.5]))
    torch.testing.assert_close(
        ends, torch.tensor([-0.700968, 0.299047, 0.799055, 1.549066]), atol=2e-6, rtol=0
    )


@pytest.mark.parametrize(
    ("steps", "order", "bound"),
    [
        (20, 2, 0.11),
        (50, 2, 1.5e-3),
        (100, 2, 2e-3),
        (200, 2, 5e-4),
        (100, 1, 0.07),
        (100, 3, 0.01),
    ],
)
def test_b_the_image_ends_where_the_flow_does(steps, order, bound):
    x = normal(2048)
    end = path(gaussian, x, 0.0, dpm_solver(steps, order=order))[-1].z_BNHW
    assert (end[:, :1] - end_of_flow(x)).abs().max() < bound


@pytest.mark.parametrize("y", [0.0, 5.0])
def test_b_the_mask_follows_the_image_at_every_step(y):
    x = normal(64)
    for state in path(gaussian, x, y, dpm_solver(100))[:-1]:
        decay = SIGMA[state.t] / SIGMA[LAST]
        memory = decay * (y - A * x - ALPHA[LAST] * B)
        expected = A * state.z_BNHW[:, :1] + ALPHA[state.t] * B + memory
        torch.testing.assert_close(state.z_BNHW[:, 1:], expected, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
def test_b_the_mask_ends_as_the_function_of_the_image(algorithm):
    torch.manual_seed(0)
    end = path(gaussian, normal(256), 5.0, dpm_solver(100, algorithm=algorithm))[-1].z_BNHW
    torch.testing.assert_close(end[:, 1:], A * end[:, :1] + B, atol=1e-6, rtol=1e-6)


def test_b_ancestral_sampling_draws_the_joint_distribution():
    torch.manual_seed(0)
    end = path(gaussian, normal(4096), 5.0, ddpm())[-1].z_BNHW
    image, mask = end[:, 0], end[:, 1]
    # 4096 draws: standard errors 0.008 of the mean and 0.0055 of the deviation.
    assert image.mean().item() == pytest.approx(M, abs=0.03)
    assert image.std().item() == pytest.approx(S, abs=0.02)
    assert (mask - (A * image + B)).abs().max() < 2e-5


# --- C: a quadratic mask -----------------------------------------------------------------------


def quadratic(x, t_B):
    alpha, sigma = at(t_B)
    return torch.cat([alpha * x, alpha**2 * x**2 + sigma**2], dim=1)


def quadratic_mask(x, y, t):
    """Return the mask along the flow, which leaves this image as it is."""
    kept = KEPT[[t, LAST]]
    u, u_start = (kept / (1 - kept)).sqrt()
    sigma, sigma_start = (1 - kept).sqrt()
    curve = x**2 * (u - u_start) - (x**2 - 1) * (u.atan() - u_start.atan())
    return (sigma / sigma_start * y + sigma * curve).item()


@pytest.mark.parametrize(
    ("x", "y", "t", "expected"),
    [
        (2, 0, 500, 0.295225),
        (2, 0, 100, 2.576811),
        (2, 0, 50, 3.212077),
        (2, 0, 10, 3.781196),
        (0, 0, 10, 0.071075),
        (2, 5, 10, 4.015371),
    ],
)
def test_c_the_closed_form_is_the_published_one(x, y, t, expected):
    assert quadratic_mask(x, y, t) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("steps", "bound"), [(100, 0.04), (400, 0.005)])
@pytest.mark.parametrize("y", [0.0, 5.0])
def test_c_the_state_before_the_last_follows_the_closed_form(steps, bound, y):
    values = [-2.0, 0.0, 0.5, 2.0]
    state = path(quadratic, column(values), y, dpm_solver(steps))[-2]
    expected = column([quadratic_mask(x, y, state.t) for x in values])
    assert (state.z_BNHW[:, 1:] - expected).abs().max() < bound


def test_c_the_mask_misses_by_the_noise_left_at_the_last_step():
    end = path(quadratic, normal(256), 0.0, dpm_solver(100))[-1].z_BNHW
    # The last answer is given at t = 10: 1 - alpha^2 = 0.0021934 there, for every sample.
    torch.testing.assert_close(
        end[:, 1] - end[:, 0] ** 2, torch.full((256, 1, 1), 0.0021934), atol=2e-6, rtol=0
    )


def test_c_ancestral_sampling_misses_by_the_noise_of_step_0():
    torch.manual_seed(0)
    end = path(quadratic, normal(256), 0.0, ddpm())[-1].z_BNHW
    torch.testing.assert_close(
        end[:, 1] - end[:, 0] ** 2, torch.full((256, 1, 1), 1e-4), atol=5e-6, rtol=0
    )


# --- D: three atoms ----------------------------------------------------------------------------

ATOMS = torch.tensor([-1.0, 0.0, 1.0])


def atoms(x, t_B):
    alpha, sigma = at(t_B)
    weights = (-((x - alpha * ATOMS) ** 2) / (2 * sigma**2)).softmax(-1)
    image = (weights * ATOMS).sum(-1, keepdim=True)
    return torch.cat([image, weights[..., 1:2]], dim=1)


@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
def test_d_samples_end_on_an_atom_with_its_mask(algorithm):
    torch.manual_seed(0)
    end = path(atoms, normal(4096), 0.0, dpm_solver(100, algorithm=algorithm))[-1].z_BNHW
    image, mask = end[:, 0].flatten(), end[:, 1].flatten()
    distance, nearest = (image[:, None] - ATOMS).abs().min(1)
    assert (distance < 0.01).float().mean() > 0.998
    assert torch.equal(mask > 0.5, nearest == 1)
    # 4096 draws: standard error of a frequency 0.0074.
    shares = nearest.bincount() / 4096
    assert (shares - 1 / 3).abs().max() < 0.025


# --- E: the start of the mask ------------------------------------------------------------------


def test_e_the_start_of_the_mask_changes_neither_image_nor_final_mask():
    low, high = (path(quadratic, normal(64), y, dpm_solver(100)) for y in (0.0, 7.0))
    for a, b in zip(low, high, strict=True):
        assert torch.equal(a.z_BNHW[:, :1], b.z_BNHW[:, :1])
    assert not torch.equal(low[-2].z_BNHW[:, 1:], high[-2].z_BNHW[:, 1:])
    assert torch.equal(low[-1].z_BNHW, high[-1].z_BNHW)


# --- choices of the solver ---------------------------------------------------------------------


def test_steps_go_linearly_from_the_noisiest():
    steps = dpm_solver(100).timesteps.tolist()
    assert steps[:2] == [999, 989]
    assert steps[-2:] == [20, 10]
    assert len(set(steps)) == 100


def test_the_sample_is_the_last_answer_bit_for_bit():
    answers = []

    def predict(x, t_B):
        answers.append(quadratic(x, t_B))
        return answers[-1]

    end = path(predict, normal(8), 3.0, dpm_solver(100))[-1]
    assert end.t is None
    assert torch.equal(end.z_BNHW, answers[-1])


def test_ending_at_the_least_noise_instead_would_remember_the_start_of_the_mask():
    ends = [
        path(quadratic, normal(8), y, dpm_solver(100, final_sigmas="sigma_min"))[-1].z_BNHW[:, 1:]
        for y in (0.0, 1.0)
    ]
    # sigma_0 / sigma_T
    torch.testing.assert_close(
        ends[1] - ends[0], torch.full((8, 1, 1, 1), 0.01), atol=2e-5, rtol=0
    )


@pytest.mark.parametrize("steps", [0, 1000])
def test_step_numbers_that_the_solver_cannot_do_are_refused(steps):
    with pytest.raises(ValueError, match=f"1 to 999 steps, got {steps}"):
        dpm_solver(steps)


def test_999_steps_stay_finite():
    end = path(quadratic, normal(2), 0.0, dpm_solver(999))[-1].z_BNHW
    assert end.isfinite().all()


# --- sampling from a network -------------------------------------------------------------------


class Half(nn.Module):
    """Answers with half of what it sees, masks that are 0, 1 ... everywhere, and keeps notes."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs, self.notes = outputs, []

    def forward(self, images, t):
        self.notes.append(
            (tuple(images.shape), t.tolist(), self.training, torch.is_grad_enabled())
        )
        masks = torch.arange(self.outputs - 3).float()[None, :, None, None]
        return torch.cat([images / 2, masks.expand(len(images), -1, *images.shape[2:])], dim=1)


def draw(network, outputs, **changes):
    settings = {"size": 8, "count": 3, "steps": 4, "seed": 0, "device": "cpu"} | changes
    return sample_joint(network, outputs=outputs, **settings)


def test_label_map_is_the_largest_mask_channel():
    images, labels = draw(Half(7), 7)
    assert images.shape == (3, 3, 8, 8)
    assert labels.shape == (3, 8, 8)
    assert labels.dtype == torch.int64
    assert labels.unique().tolist() == [3]


def test_without_mask_channels_there_are_no_labels():
    images, labels = draw(Half(3), 3)
    assert images.shape == (3, 3, 8, 8)
    assert labels is None


def test_the_network_sees_images_only_in_evaluation_mode_without_gradients():
    network = Half(5).train()
    draw(network, 5)
    shapes, steps, training, grads = zip(*network.notes, strict=True)
    assert set(shapes) == {(3, 3, 8, 8)}
    assert [t[0] for t in steps] == dpm_solver(4).timesteps.tolist()
    assert not any(training)
    assert not any(grads)
    assert network.training


def test_drawing_more_images_leaves_the_earlier_ones():
    few, _ = draw(Half(5), 5, count=2)
    many, _ = draw(Half(5), 5, count=4)
    assert torch.equal(many[:2], few)


def test_the_seed_decides_the_images_and_nothing_else_does():
    first, _ = draw(Half(5), 5)
    torch.manual_seed(99)
    again, _ = draw(Half(5), 5)
    other, _ = draw(Half(5), 5, seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_sampling_leaves_the_global_random_stream_where_it_was():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    draw(Half(5), 5)
    assert torch.equal(torch.rand(1), expected)


def test_a_network_without_image_channels_cannot_be_sampled():
    with pytest.raises(ValueError, match="2 outputs cannot hold 3 image channels"):
        draw(Half(5), 2)
