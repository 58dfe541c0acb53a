"""The noise schedule against the table of method.md 2.1."""

import pytest
import torch
from diffusers import DDPMScheduler

from trainables.diffusion.schedule import Schedule, alphas_cumprod

# t: alpha^2, alpha, sigma, SNR, to the digits that are given.
TABLE = {
    0: (0.9999, 0.99995, 0.0100, 9999),
    1: (0.99978, 0.99989, 0.01483, 4546.36),
    10: (0.997807, 0.9989, 0.04683, 454.907),
    50: (0.969951, 0.98486, 0.17335, 32.2795),
    100: (0.895142, 0.94612, 0.32382, 8.53667),
    150: (0.785887, 0.8865, 0.46272, 3.67043),
    250: (0.521423, 0.7221, 0.69179, 1.08953),
    500: (0.0777967, 0.27892, 0.96031, 0.0843595),
    900: (2.70245e-4, 0.01644, 0.99986, 2.70318e-4),
    999: (4.03583e-5, 0.0063528, 0.99997982, 4.03599e-5),
}


@pytest.mark.parametrize("t", TABLE)
def test_values_of_the_table(t):
    schedule = Schedule()
    kept, alpha, sigma, snr = TABLE[t]
    assert alphas_cumprod()[t].item() == pytest.approx(kept, rel=5e-6)
    assert schedule.alpha[t].item() == pytest.approx(alpha, rel=3e-4)
    assert schedule.sigma[t].item() == pytest.approx(sigma, rel=3e-4)
    assert schedule.snr[t].item() == pytest.approx(snr, rel=5e-6)


def test_signal_to_noise_over_all_steps():
    snr = Schedule().snr.double()
    assert len(snr) == 1000
    assert snr.mean().item() == pytest.approx(31.0543, abs=5e-5)
    assert snr.sum().item() == pytest.approx(31054.345, abs=5e-3)
    assert snr.quantile(0.5).item() == pytest.approx(0.0848, abs=5e-5)
    assert (snr > 1).nonzero().max() == 258
    shares = snr.cumsum(0) / snr.sum()
    assert [round(shares[t].item(), 2) for t in (0, 9, 49)] == [0.32, 0.79, 0.95]


def test_the_weight_of_the_cleanest_step_is_exact_where_diffusers_is_off():
    # float32 cumulative products give 9997.34.
    assert Schedule().snr[0].item() == pytest.approx(9999, rel=1e-6)


def test_noising_is_diffusers_noising():
    generator = torch.Generator().manual_seed(0)
    images, noise = (torch.randn(4, 3, 8, 8, generator=generator) for _ in range(2))
    t = torch.tensor([0, 10, 500, 999])
    ddpm = DDPMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    expected = ddpm.add_noise(images, noise, t)
    torch.testing.assert_close(
        Schedule().add_noise(images, noise, t), expected, atol=1e-5, rtol=1e-4
    )
