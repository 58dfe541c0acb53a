"""What the pretrainings share: batches, updates, checkpoints, the weights they leave.

A task says how many outputs its network has, what the loss of a micro-batch is, and what to do
besides. Batch order, augmentation, noise and timesteps are functions of (seed, position); only
dropout draws from a stream, which travels in the checkpoint.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from trainables.config import PretrainingConfig, RunSpec
from trainables.data.feeding.ahead import ReadAhead
from trainables.data.feeding.batches import Levels, load_levels, ready_for, tensors_on
from trainables.data.feeding.order import batch_at, usual_sizes
from trainables.data.store import ArrowDataset
from trainables.keys import derive_seed
from trainables.loop import Places, Run
from trainables.networks.start import WEIGHTS_FILE, fresh_network
from trainables.networks.training import TrainingNetwork
from trainables.optimization import Descent
from trainables.watched import Losses


class Pretraining(Run):
    """Train one network on a source dataset for a fixed number of updates.

    Raises:
        DatasetChangedError: if the prepared dataset is not the one that was planned.
        ValueError: if the network needs ImageNet weights that are not there.
    """

    def __init__(self, spec: RunSpec, places: Places) -> None:
        super().__init__(spec, places)
        assert isinstance(spec.training, PretrainingConfig)
        self.config: PretrainingConfig = spec.training
        self.data = ArrowDataset.open(places.dataset, fingerprint=spec.dataset.fingerprint)
        self.network = fresh_network(spec, self.outputs, places)
        self.answer = TrainingNetwork(self.network, spec.compute, self._usual_sizes)
        self.descent = Descent(
            self.network,
            self.config.optimizer,
            ema=self.config.ema,
            fused=spec.compute.fused_adamw,
            own_gradients=spec.compute.records_graphs,
        )
        self._losses = Losses(self)
        self._batches = ReadAhead(self._batch, end=self.config.updates, ahead=self.beside)

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Output channels of the network."""

    @abstractmethod
    def shares(self, images_BCHW: Tensor, labels_BHW: Tensor) -> Iterator[Tensor]:
        """Yield the share of each micro-batch in the loss of this update."""

    @property
    def indices(self) -> NDArray[np.int64]:
        """Images to train on: all of the source, unless a task holds some out."""
        return np.arange(len(self.data), dtype=np.int64)

    @property
    def done(self) -> bool:
        return self.update >= self.config.updates

    @property
    def fraction(self) -> float:
        return self.update / self.config.updates

    def advance(self) -> None:
        self.network.train()
        images_BCHW, labels_BHW = tensors_on(self.places.device, *self._batches(self.update))
        shares = self.shares(images_BCHW, labels_BHW)
        self._losses.train(self.descent, shares)
        self.update += 1
        if self.update % self.config.log_every == 0 or self.done:
            self.log("loss", self._losses.mean())
        self.after_update()

    def settle(self) -> None:
        self._losses.settle()

    def after_update(self) -> None:
        """Do what is due after an update; nothing by default."""

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the network's weights as they are now."""
        state = self.network.state_dict()
        return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}

    def final_weights(self) -> dict[str, Tensor]:
        """Return the weights to leave: the last ones, or their moving average if one is kept."""
        with self.descent.averaged():
            return self.weights()

    def own_state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "descent": self.descent.state_dict(),
            "losses": self._losses.state(),
        }

    def load_own_state(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.descent.load_state_dict(state["descent"])
        self._losses.load(state["losses"])

    def finish(self) -> dict[str, float]:
        self.places.artifacts.mkdir(parents=True, exist_ok=True)
        save_file(self.final_weights(), self.places.artifacts / WEIGHTS_FILE)
        losses = [point.value for point in self.history if point.name == "loss"]
        return {"final_loss": losses[-1]}

    def _usual_sizes(self) -> frozenset[int]:
        return usual_sizes(len(self.indices), self.config.batch, self.micro_batch)

    def _batch(self, update: int) -> Levels:
        """Return the images and labels of an update."""
        epoch, chosen = batch_at(
            self.indices, batch=self.config.batch, update=update, seed=self.spec.seed
        )
        levels = load_levels(
            self.data,
            chosen,
            image_size=self.spec.dataset.image_size,
            augmentation=self.spec.dataset.augmentation,
            seeds=[derive_seed(self.spec.seed, "augment", epoch, int(i)) for i in chosen],
        )
        return ready_for(self.places.device, levels)
