"""LEDM: a small pixel classifier on the frozen features of a pretrained ADM.

One classifier (the paper uses a single member of the official ensemble of ten), trained on pixels of
the labelled images until its mini-batch training loss stops falling; the last weights are used and
the validation part is not read. How features are had without storing them: see `features`.

Source: Baranchuk et al. 2022, https://arxiv.org/abs/2112.03126, settings of March 2022.

Shape suffixes: N images, P pixels, D features, H W image side.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from trainables.adaptation.features import Features, PixelGather, project_then_upsample
from trainables.adaptation.target import Target
from trainables.config import LedmConfig, RunSpec
from trainables.keys import derive_seed
from trainables.loop import Places, Run
from trainables.losses.segmentation import IGNORE
from trainables.networks.adm import AdmUNet
from trainables.networks.start import WEIGHTS_FILE, pretrained_network
from trainables.seeding import generator

MANY_CLASSES = 30  # From here on the official code takes the wider classifier.
WIDE, NARROW = (256, 128), (128, 32)
INITIAL_STD = 0.02
LOG_EVERY = 50  # Iterations between two logged losses.
# Mini-batches whose features are read in one go: one by one, a GPU waits for Python.
GATHERED = 16


@dataclass
class StoppingRule:
    """Stop when the training loss of a mini-batch has had no new minimum for too long.

    Watches from `first_epoch` on, and stops after more than `patience` mini-batches.
    """

    first_epoch: int
    patience: int
    lowest: float = float("inf")
    since: int = 0

    def stops(self, epoch: int, loss: float) -> bool:
        """Take in the loss of one mini-batch and return whether training is over."""
        if epoch < self.first_epoch:
            return False
        if loss < self.lowest:
            self.lowest, self.since = loss, 0
        else:
            self.since += 1
        return self.since > self.patience


class Ledm(Run):
    """Train the pixel classifier; one update is one mini-batch of pixels.

    Raises:
        DatasetChangedError: if the prepared dataset is not the one that was planned.
        TypeError: if the pretraining is not an ADM.
        ValueError: if the dataset is too small for its split, the pretraining is missing, or there
            are fewer than two labelled training pixels per mini-batch.
    """

    def __init__(self, spec: RunSpec, places: Places) -> None:
        super().__init__(spec, places)
        assert isinstance(spec.training, LedmConfig)
        self.config: LedmConfig = spec.training
        self.target = Target(
            places.dataset,
            spec.dataset,
            train_images=self.config.train_images,
            split_seed=self.config.split_seed,
            device=places.device,
        )
        images_NCHW, labels_NHW = self.target.batch(self.target.train)
        labels_NHW = without_small_classes(labels_NHW, self.config.min_class_pixels)
        self._pixels = (labels_NHW != IGNORE).nonzero().to(places.device)
        if min(len(self._pixels), self.config.batch_pixels) < 2:
            raise ValueError(
                f"batch normalisation needs two pixels per mini-batch: {spec.dataset.name} has "
                f"{len(self._pixels)} labelled training pixels, batch_pixels is "
                f"{self.config.batch_pixels}"
            )
        self._features = self._frozen_features()
        # One image at a time bounds the memory.
        each = (self._features.maps(image[None].to(places.device)) for image in images_NCHW)
        self._gather = PixelGather(each, len(images_NCHW), spec.dataset.image_size)
        image_P, row_P, column_P = self._pixels.cpu().unbind(1)
        self._labels_P = labels_NHW[image_P, row_P, column_P].to(places.device)
        classifier = pixel_classifier(self._gather.features, spec.dataset.classes)
        self.classifier = classifier.to(places.device)
        self._optimizer = torch.optim.Adam(self.classifier.parameters(), lr=self.config.lr)
        self._rule = StoppingRule(
            self.config.first_stopping_epoch, self.config.patience_iterations
        )
        self._stopped = False
        self._losses: list[float] = []
        self._order: tuple[int, Tensor] | None = None
        self._ahead: tuple[int, Tensor, Tensor] | None = None

    @property
    def done(self) -> bool:
        limit = self.config.max_iterations
        capped = limit is not None and self.update >= limit
        return self._stopped or capped or self._epoch >= self.config.max_epochs

    @property
    def fraction(self) -> float:
        # Until the rule fires: its earliest end is the best guess there is.
        earliest = self._per_epoch * min(self.config.first_stopping_epoch, self.config.max_epochs)
        expected = earliest + self.config.patience_iterations
        if self.config.max_iterations is not None:
            expected = min(expected, self.config.max_iterations)
        return 1.0 if self.done else min(self.update / max(expected, 1), 0.99)

    def advance(self) -> None:
        self.classifier.train()
        epoch = self._epoch
        features_PD, labels_P = self._batch(epoch)
        loss = F.cross_entropy(self.classifier(features_PD), labels_P)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        # Waited for once all is on its way: the rule wants every loss. A bad one ends the run.
        value = self.checked(loss.item())
        self.update += 1
        self._stopped = self._rule.stops(epoch, value)
        self._losses.append(value)
        if self.update % LOG_EVERY == 0 or self.done:
            self.log("loss", float(np.mean(self._losses)))
            self._losses.clear()

    def own_state(self) -> dict[str, Any]:
        return {
            "classifier": self.classifier.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "lowest": self._rule.lowest,
            "since": self._rule.since,
            "stopped": self._stopped,
            "losses": list(self._losses),
        }

    def load_own_state(self, state: dict[str, Any]) -> None:
        self.classifier.load_state_dict(state["classifier"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._rule.lowest, self._rule.since = state["lowest"], state["since"]
        self._stopped = state["stopped"]
        self._losses = list(state["losses"])

    def finish(self) -> dict[str, float]:
        metrics = self.target.score_test(self._predict, self.places.artifacts)
        if self.places.keep_weights:
            save_file(self.classifier.state_dict(), self.places.artifacts / WEIGHTS_FILE)
        return {**metrics, "iterations": float(self.update), "epochs": float(self._epoch)}

    @property
    def _per_epoch(self) -> int:
        """Mini-batches per epoch; what does not fill one is dropped, as in the official code."""
        return max(len(self._pixels) // self.config.batch_pixels, 1)

    @property
    def _epoch(self) -> int:
        return self.update // self._per_epoch

    def _batch(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Return features_PD and labels_P of the current mini-batch."""
        group, place = divmod(self.update % self._per_epoch, GATHERED)
        first = self.update - place
        if self._ahead is None or self._ahead[0] != first:
            pixels = GATHERED * self.config.batch_pixels
            chosen = self._permuted(epoch)[group * pixels : (group + 1) * pixels]
            features = self._gather(*self._pixels[chosen].unbind(1))
            self._ahead = (first, features, self._labels_P[chosen])
        start = place * self.config.batch_pixels
        here = slice(start, start + self.config.batch_pixels)
        return self._ahead[1][here], self._ahead[2][here]

    def _permuted(self, epoch: int) -> Tensor:
        """Return the indices of the pixels of an epoch, in its order."""
        if self._order is None or self._order[0] != epoch:
            draws = np.random.default_rng(derive_seed(self.spec.seed, "pixels", epoch))
            order = torch.from_numpy(draws.permutation(len(self._pixels)))
            whole = self._per_epoch * self.config.batch_pixels
            self._order = (epoch, order[:whole].to(self.places.device))
        return self._order[1]

    def _frozen_features(self) -> Features:
        network = pretrained_network(self.spec, self.places)
        if not isinstance(network, AdmUNet):
            raise TypeError(f"LEDM needs the decoder of an ADM, got {self.spec.network.family}")
        side = self.spec.dataset.image_size
        noise = torch.randn((1, 3, side, side), generator=generator(self.spec.seed, "ledm noise"))
        return Features(
            network.eval().requires_grad_(False),
            noise.to(self.places.device),
            steps=self.config.steps,
            blocks=self.config.blocks,
        )

    @torch.inference_mode()
    def _predict(self, images_NCHW: Tensor) -> Tensor:
        self.classifier.eval()
        first = self.classifier[0]
        assert isinstance(first, nn.Linear)
        predicted = []
        for image_CHW in images_NCHW:
            maps = self._features.maps(image_CHW[None].to(self.places.device))
            hidden_1UHW = project_then_upsample(maps, first.weight, first.bias, image_CHW.shape[1])
            hidden_PU = hidden_1UHW[0].flatten(1).T
            labels_P = self.classifier[1:](hidden_PU).argmax(1)
            predicted.append(labels_P.reshape(image_CHW.shape[1:]))
        return torch.stack(predicted)


def pixel_classifier(features: int, classes: int) -> nn.Sequential:
    """Return the classifier: Linear, ReLU, *then* batch normalisation, twice; Linear."""
    hidden = WIDE if classes >= MANY_CLASSES else NARROW
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((features, *hidden)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.BatchNorm1d(outputs)]
    classifier = nn.Sequential(*layers, nn.Linear(hidden[-1], classes))
    for layer in classifier:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, INITIAL_STD)
            nn.init.zeros_(layer.bias)
    return classifier


def without_small_classes(labels_NHW: Tensor, min_pixels: int) -> Tensor:
    """Return the labels with every class of fewer pixels than that in an image ignored there."""
    labels_NHW = labels_NHW.clone()
    for labels_HW in labels_NHW:
        values, counts = labels_HW.unique(return_counts=True)
        for value in values[counts < min_pixels].tolist():
            labels_HW[labels_HW == value] = IGNORE
    return labels_NHW
