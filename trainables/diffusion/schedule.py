"""The noise schedule: how much of the image is left at each of the 1000 steps.

Variance preserving: x_t = alpha(t) x + sigma(t) eps with alpha^2 + sigma^2 = 1. Linear betas from
1e-4 to 0.02, both included. There is no noise-free step: t = 0 has sigma = 0.01. Computed in
float64, because in float32 the cumulative product is off by 2e-4 at t = 0, where SNR is largest.

Source: Ho et al., "Denoising diffusion probabilistic models", 2020,
https://arxiv.org/abs/2006.11239.

Shape suffixes: B batch, C channels, H height, W width, T steps.
Units: t counts from 0, the least noisy step, to 999.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 1000
BETA_START = 1e-4
BETA_END = 0.02


def alphas_cumprod() -> Tensor:
    """Return alpha(t)^2 of every step, in float64."""
    betas_T = torch.linspace(BETA_START, BETA_END, STEPS, dtype=torch.float64)
    return torch.cumprod(1 - betas_T, dim=0)


class Schedule:
    """Tables over t, in float32 on one device: index them with an int64 tensor of steps."""

    alpha: Tensor
    """Share of the image."""

    sigma: Tensor
    """Share of the noise."""

    snr: Tensor
    """alpha^2 / sigma^2, from 9999 down to 4e-5."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        kept_T = alphas_cumprod()
        self.alpha = kept_T.sqrt().float().to(device)
        self.sigma = (1 - kept_T).sqrt().float().to(device)
        self.snr = (kept_T / (1 - kept_T)).float().to(device)

    def add_noise(self, images_BCHW: Tensor, noise_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """Return the images as they are at step `t_B`, given standard normal noise."""
        alpha_B111 = self.alpha[t_B][:, None, None, None]
        sigma_B111 = self.sigma[t_B][:, None, None, None]
        return alpha_B111 * images_BCHW + sigma_B111 * noise_BCHW
