"""Joint sampling: draw an image from noise, and its mask along the way.

The network sees the noised image only. Image and mask channels are integrated together, each from
the network's estimate of its clean value; if the mask is a function of the image, both end in a
sample of their joint distribution, whatever value the mask starts from (propositions 1 and 2 of
the paper). Here it starts from 0.

Choices that look like defaults and are not:

* `prediction_type="sample"`: the network answers with the clean image, not with the noise;
* linearly spaced steps, so that the first step is the noisiest one, t = 999;
* the last update goes to sigma = 0 and so returns the network's last answer as it is;
* no thresholding and no clipping: both would mix or cut the mask channels.

Source: Lu et al., "DPM-Solver++", 2022, https://arxiv.org/abs/2211.01095.

Shape suffixes: B batch, C image channels, K classes, N = C + K channels, H height, W width.
Units: images in [-1, 1]; t counts from 0, the least noisy step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor, nn

from trainables.diffusion.schedule import BETA_END, BETA_START, STEPS
from trainables.keys import derive_seed

Predictor = Callable[[Tensor, Tensor], Tensor]
"""Maps noised images_BCHW and t_B to the expected clean channels_BNHW."""


class Scheduler(Protocol):
    """What is needed of a diffusers scheduler, whose steps have been set."""

    timesteps: Tensor

    def step(self, output: Tensor, t: Tensor, sample: Tensor, /) -> object:
        """Return an object with the state before this one as `prev_sample`."""


@dataclass(frozen=True)
class State:
    """A point of the path from noise to sample."""

    t: int | None
    """Step at which `z_BNHW` is; None at the end, where no noise is left."""

    z_BNHW: Tensor
    """Image and mask channels."""


def dpm_solver(
    steps: int,
    *,
    algorithm: str = "dpmsolver++",
    order: int = 2,
    final_sigmas: str = "zero",
) -> DPMSolverMultistepScheduler:
    """Return a solver for one batch: it keeps the history of what it integrates.

    Args:
        steps: network evaluations.
        algorithm: `dpmsolver++` for the ordinary, `sde-dpmsolver++` for the stochastic equation.
        order: of the solver, 1 to 3.
        final_sigmas: `zero` ends in the last answer; `sigma_min` leaves the noise of t = 0 in.

    Raises:
        ValueError: if there are as many steps as there are noise levels: two of them would round
            to the same one, and the solver divide by zero.
    """
    if not 1 <= steps < STEPS:
        raise ValueError(f"sampling takes 1 to {STEPS - 1} steps, got {steps}")
    solver = DPMSolverMultistepScheduler(
        num_train_timesteps=STEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="linear",
        prediction_type="sample",
        algorithm_type=algorithm,
        solver_order=order,
        timestep_spacing="linspace",
        thresholding=False,
        final_sigmas_type=final_sigmas,
    )
    solver.set_timesteps(steps)
    return solver


def joint_path(
    predictor: Predictor, start_BNHW: Tensor, scheduler: Scheduler, *, image_channels: int = 3
) -> Iterator[State]:
    """Yield the states after each step; the last one, without noise, is the sample.

    Args:
        predictor: sees the image channels only and answers with all channels.
        start_BNHW: standard normal image channels, then mask channels of any value.
        scheduler: a fresh one, its steps set.
        image_channels: C.
    """
    z_BNHW = start_BNHW
    steps = scheduler.timesteps
    for index, t in enumerate(steps):
        t_B = torch.full((len(z_BNHW),), int(t), dtype=torch.int64, device=z_BNHW.device)
        answer_BNHW = predictor(z_BNHW[:, :image_channels], t_B)
        z_BNHW = scheduler.step(answer_BNHW, t, z_BNHW).prev_sample  # type: ignore[attr-defined]
        yield State(int(steps[index + 1]) if index + 1 < len(steps) else None, z_BNHW)


@torch.no_grad()
def sample_joint(
    network: nn.Module,
    *,
    outputs: int,
    size: int,
    count: int,
    steps: int,
    seed: int,
    device: torch.device | str,
    image_channels: int = 3,
) -> tuple[Tensor, Tensor | None]:
    """Draw images, and their label maps if the network predicts masks.

    In evaluation mode and without autocast. Image i depends on `seed` and i only, so drawing more
    images leaves the earlier ones as they were, up to rounding.

    Args:
        network: called with noised images and t_B.
        outputs: channels it answers with, image and mask together.
        size: side of the images in pixels.
        count: how many images to draw, in one batch.
        steps: network evaluations per image.

    Returns:
        images_BCHW as the solver leaves them, about [-1, 1], and labels_BHW: the class with the
        largest mask channel, or None if `outputs` has image channels only.

    Raises:
        ValueError: if `outputs` is less than the image channels, or `steps` is not in 1..999.
    """
    if outputs < image_channels:
        raise ValueError(f"{outputs} outputs cannot hold {image_channels} image channels")
    start_BNHW = torch.zeros(count, outputs, size, size)
    for index in range(count):
        # Drawn on the CPU, so that every device starts from the same noise.
        generator = torch.Generator().manual_seed(derive_seed(seed, "sample", index))
        noise_CHW = torch.randn(image_channels, size, size, generator=generator)
        start_BNHW[index, :image_channels] = noise_CHW
    training = network.training
    network.eval()
    try:
        with torch.autocast(torch.device(device).type, enabled=False):
            path = joint_path(
                network, start_BNHW.to(device), dpm_solver(steps), image_channels=image_channels
            )
            *_, last = path
    finally:
        network.train(training)
    images_BCHW, masks_BKHW = last.z_BNHW[:, :image_channels], last.z_BNHW[:, image_channels:]
    return images_BCHW, masks_BKHW.argmax(1) if outputs > image_channels else None
