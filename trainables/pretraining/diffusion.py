"""Denoising pretraining on images alone: SNR-weighted regression of the clean image.

The hybrid task is this one with a mask: the same timesteps, the same noise and the same weights, so
that the two are paired and differ by the mask term only.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from trainables.config import RunSpec
from trainables.diffusion.sampling import sample_joint
from trainables.diffusion.schedule import Schedule
from trainables.loop import Places
from trainables.losses.diffusion import diffusion_loss
from trainables.networks.start import pretraining_outputs
from trainables.pictures import write_samples
from trainables.pretraining.base import Pretraining
from trainables.seeding import generator


class DiffusionPretraining(Pretraining):
    """Predict the clean image from the noised one; the labels of the source are not read."""

    def __init__(self, spec: RunSpec, places: Places) -> None:
        super().__init__(spec, places)
        self._schedule = Schedule(places.device)

    @property
    def outputs(self) -> int:
        return pretraining_outputs("diffusion", self.spec.dataset.classes)

    def loss_B(self, clean: Tensor, labels: Tensor, answer: Tensor, snr_B: Tensor) -> Tensor:  # noqa: ARG002
        """Return the loss of each image of a micro-batch; no label is read."""
        return diffusion_loss(clean, answer, snr_B)

    def shares(self, images_BCHW: Tensor, labels_BHW: Tensor) -> Iterator[Tensor]:
        count = len(images_BCHW)
        size = self.micro_batch or count
        whole_batch = (
            images_BCHW,
            labels_BHW,
            self._timesteps(count),
            self._noise(images_BCHW),
        )
        parts = zip(*(tensor.split(size) for tensor in whole_batch), strict=True)
        for clean, labels, t, noise in parts:
            answer = self.answer(self._schedule.add_noise(clean, noise, t), t)
            yield self.loss_B(clean, labels, answer, self._schedule.snr[t]).sum() / count

    def finish(self) -> dict[str, float]:
        metrics = super().finish()
        if self.config.sampling.images:
            self.draw_samples()
        return metrics

    def draw_samples(self) -> None:
        """Write a grid of jointly sampled images and masks."""
        with self.descent.averaged():
            images, labels = sample_joint(
                self.network,
                outputs=self.outputs,
                size=self.spec.dataset.image_size,
                count=self.config.sampling.images,
                steps=self.config.sampling.steps,
                seed=self.spec.seed,
                device=self.places.device,
            )
        write_samples(
            self.places.artifacts / "samples.png",
            images,
            labels,
            classes=self.spec.dataset.classes,
            generated=self.spec.dataset.generated,
        )

    def _timesteps(self, count: int) -> Tensor:
        """Return one timestep per image, uniform over 0..999."""
        draws = generator(self.spec.seed, "timestep", self.update)
        return torch.randint(0, 1000, (count,), generator=draws).to(self.places.device)

    def _noise(self, images_BCHW: Tensor) -> Tensor:
        draws = generator(self.spec.seed, "noise", self.update, device=self.places.device)
        return torch.randn(images_BCHW.shape, generator=draws, device=self.places.device)
