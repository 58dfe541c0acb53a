"""Hybrid pretraining loss: denoise the image and predict its mask with one network.

Only the image is noised. The network answers with the clean image and the mask, both as plain
regressions, and both terms carry the weight SNR(t): that turns the image term into ordinary
noise prediction, and it is why the mask weight of the paper is as small as 1e-4 (SNR is 9999 at
t = 0).

Source: Sauvalle & Salzmann, "Hybrid diffusion models", 2024, https://arxiv.org/abs/2408.03433.

Shape suffixes: B batch, C image channels, K classes, H height, W width; no suffix, a scalar.
Units: images in [-1, 1]; masks one-hot in {0, 1}; t counts from 0, the least noisy step.
"""

from __future__ import annotations

from torch import Tensor

from trainables.losses.diffusion import mean_square_B


def hybrid_loss(
    clean_BCHW: Tensor,
    mask_BKHW: Tensor,
    answer_BNHW: Tensor,
    snr_B: Tensor,
    *,
    mask_weight: float,
) -> Tensor:
    """Return the loss of each example, before any reduction over the batch.

    Per example, so that the caller decides how a ragged last batch counts.

    Args:
        clean_BCHW: images before noise, in [-1, 1].
        mask_BKHW: one-hot masks, background included as a class.
        answer_BNHW: network output, (B, N = C + K, H, W): image channels first, then mask.
            Raw values: no softmax, no tanh.
        snr_B: alpha(t)^2 / sigma(t)^2 of each example, dimensionless, not clipped.
        mask_weight: lambda in the paper; 0 switches the mask term off.

    Returns:
        loss_B, dimensionless, float32.

    Raises:
        ValueError: if the channels of `answer_BNHW` are not those of image and mask together.
    """
    channels, classes = clean_BCHW.shape[1], mask_BKHW.shape[1]
    if answer_BNHW.shape[1] != channels + classes:
        raise ValueError(
            f"network must answer {channels} image + {classes} mask channels, "
            f"got {answer_BNHW.shape[1]}"
        )
    # Two means, never one over C + K channels: that would let the number of classes set the
    # balance between the two tasks.
    image_B = mean_square_B(answer_BNHW[:, :channels], clean_BCHW)
    mask_B = mean_square_B(answer_BNHW[:, channels:], mask_BKHW)
    return snr_B * (image_B + mask_weight * mask_B)
