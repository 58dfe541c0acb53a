"""Hybrid pretraining: denoise the image and predict its mask with one network (the proposal).

Source: Sauvalle & Salzmann, arXiv 2408.03433: joint regression of image and one-hot mask from the
noised image, both weighted with SNR(t), the mask term by lambda besides.
"""

import torch.nn.functional as F
from torch import Tensor

from trainables.losses.hybrid import hybrid_loss
from trainables.networks.start import pretraining_outputs
from trainables.pretraining.diffusion import DiffusionPretraining


class HybridPretraining(DiffusionPretraining):
    """Predict image and mask from the noised image. The mask is never an input."""

    @property
    def outputs(self) -> int:
        return pretraining_outputs("hybrid", self.spec.dataset.classes)

    def loss_B(self, clean: Tensor, labels: Tensor, answer: Tensor, snr_B: Tensor) -> Tensor:
        """Return the loss of each image, the masks as one-hot values in {0, 1}."""
        # It refuses a label that is no class, an ignored one say: there is no mask to regress to.
        mask = F.one_hot(labels, self.spec.dataset.classes).permute(0, 3, 1, 2)
        return hybrid_loss(clean, mask, answer, snr_B, mask_weight=self.config.mask_weight)
