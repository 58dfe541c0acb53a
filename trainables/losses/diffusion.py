"""Diffusion pretraining loss: give back the clean image, weighted so that it predicts the noise.

With a weight of SNR(t), the error of the image equals the error of the noise that it implies, and
the loss is the ordinary loss of Ho et al. 2020 (https://arxiv.org/abs/2006.11239).

Shape suffixes: B batch, C image channels, K classes, H height, W width; no suffix, a scalar.
Units: images in [-1, 1]; t counts from 0, the least noisy step.
"""

from __future__ import annotations

from torch import Tensor


def mean_square_B(answer_BCHW: Tensor, truth_BCHW: Tensor) -> Tensor:
    """Return the mean squared error of each example, in float32."""
    return (answer_BCHW.float() - truth_BCHW.float()).square().flatten(1).mean(1)


def diffusion_loss(clean_BCHW: Tensor, answer_BCHW: Tensor, snr_B: Tensor) -> Tensor:
    """Return the loss of each example, before any reduction over the batch.

    Args:
        clean_BCHW: images before noise, in [-1, 1].
        answer_BCHW: network output, raw values.
        snr_B: alpha(t)^2 / sigma(t)^2 of each example, dimensionless, not clipped.

    Raises:
        ValueError: if images and answer differ in shape.
    """
    if answer_BCHW.shape != clean_BCHW.shape:
        raise ValueError(
            f"images of shape {tuple(clean_BCHW.shape)} cannot be compared with an answer of "
            f"shape {tuple(answer_BCHW.shape)}"
        )
    return snr_B * mean_square_B(answer_BCHW, clean_BCHW)
