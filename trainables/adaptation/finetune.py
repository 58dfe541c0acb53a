"""Vanilla fine-tuning: all weights, pixel cross-entropy, early stopping on the validation metric.

For the ADM the condition is frozen at timestep 0 and the image is clean, as in PTDR (Rousseau et
al. 2023), whose recipe the paper follows. DeepLab and SegFormer are fine-tuned likewise.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from safetensors.torch import save_file
from torch import Tensor

from trainables.adaptation.target import Target
from trainables.config import FineTuningConfig, RunSpec
from trainables.data.feeding.ahead import ReadAhead
from trainables.data.feeding.batches import Levels, ready_for, tensors_on
from trainables.data.feeding.order import batch_at, batch_starts, usual_sizes
from trainables.evaluation import segment_with
from trainables.loop import Places, Run
from trainables.losses.accumulated import segmentation_shares
from trainables.networks.start import WEIGHTS_FILE, segmentation_network
from trainables.networks.training import TrainingNetwork
from trainables.optimization import Descent
from trainables.watched import Losses


class FineTuning(Run):
    """Fine-tune until the validation metric has not improved for `patience` epochs.

    Raises:
        DatasetChangedError: if the prepared dataset is not the one that was planned.
        ValueError: if the dataset is too small for its split, or a pretraining is missing.
    """

    TESTED: ClassVar[bool] = True
    """Whether the target's test part is there to be scored at the end."""

    def __init__(self, spec: RunSpec, places: Places) -> None:
        super().__init__(spec, places)
        assert isinstance(spec.training, FineTuningConfig)
        self.config: FineTuningConfig = spec.training
        self.target = Target(
            places.dataset,
            spec.dataset,
            train_images=self.config.train_images,
            split_seed=self.config.split_seed,
            device=places.device,
            tested=self.TESTED,
        )
        self.network = segmentation_network(spec, places)
        self._answer = TrainingNetwork(self.network, spec.compute, self._usual_sizes)
        self.descent = Descent(
            self.network,
            self.config.optimizer,
            fused=spec.compute.fused_adamw,
            own_gradients=spec.compute.records_graphs,
        )
        self._predict = segment_with(
            self.network,
            timestep=self.config.timestep,
            device=places.device,
            bf16=spec.compute.bf16_evaluation,
        )
        self.epoch = 0
        self._best_metric = float("-inf")
        self._best_epoch = 0
        self._best_weights: dict[str, Tensor] = {}
        self._losses = Losses(self)
        limit = self.config.max_epochs * self._per_epoch
        self._batches = ReadAhead(self._batch, end=limit, ahead=self.beside)

    @property
    def done(self) -> bool:
        waited = self.epoch - self._best_epoch
        return waited >= self.config.patience or self.epoch >= self.config.max_epochs

    @property
    def fraction(self) -> float:
        # The end is not known before it comes: the nearer of the two limits as things stand.
        patience_end = self._best_epoch + self.config.patience
        return self.epoch / min(patience_end, self.config.max_epochs)

    def advance(self) -> None:
        self.network.train()
        self._losses.train(self.descent, self._shares())
        self.update += 1
        if self.update % self._per_epoch == 0:
            self._end_epoch()

    def settle(self) -> None:
        self._losses.settle()

    def own_state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "descent": self.descent.state_dict(),
            "epoch": self.epoch,
            "best_metric": self._best_metric,
            "best_epoch": self._best_epoch,
            "best_weights": self._best_weights,
            "losses": self._losses.state(),
        }

    def load_own_state(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.descent.load_state_dict(state["descent"])
        self.epoch = state["epoch"]
        self._best_metric = state["best_metric"]
        self._best_epoch = state["best_epoch"]
        self._best_weights = state["best_weights"]
        self._losses.load(state["losses"])

    def finish(self) -> dict[str, float]:
        self.network.load_state_dict(self._best_weights)
        metrics = self.target.score_test(self._predict, self.places.artifacts)
        self._leave_weights()
        return {
            **metrics,
            "best_val": self._best_metric,
            "best_epoch": float(self._best_epoch),
            "epochs": float(self.epoch),
        }

    def _leave_weights(self) -> None:
        if self.places.keep_weights:
            save_file(self._best_weights, self.places.artifacts / WEIGHTS_FILE)

    @property
    def _per_epoch(self) -> int:
        """Updates of an epoch."""
        return len(batch_starts(len(self.target.train), self.config.batch))

    def _shares(self) -> Iterator[Tensor]:
        images_BCHW, labels_BHW = tensors_on(self.places.device, *self._batches(self.update))
        return segmentation_shares(
            self._answer,
            images_BCHW,
            labels_BHW,
            timestep=self.config.timestep,
            micro_batch=self.micro_batch,
        )

    def _batch(self, update: int) -> Levels:
        """Return the images and labels of an update."""
        _, chosen = batch_at(
            self.target.train, batch=self.config.batch, update=update, seed=self.spec.seed
        )
        return ready_for(self.places.device, self.target.levels(chosen))

    def _usual_sizes(self) -> frozenset[int]:
        return usual_sizes(len(self.target.train), self.config.batch, self.micro_batch)

    def _end_epoch(self) -> None:
        self.epoch += 1
        loss = self._losses.mean()  # Before the weights are scored, which it may find spoilt.
        metric = self.target.validation_metric(self._predict)
        self.log("loss", loss)
        self.log(f"val_{self.spec.dataset.metric}", metric)
        if metric > self._best_metric:
            self._best_metric, self._best_epoch = metric, self.epoch
            state = self.network.state_dict()
            self._best_weights = {k: v.detach().clone().contiguous() for k, v in state.items()}


class ValidatedFineTuning(FineTuning):
    """The same fine-tuning, scored on the validation part: what tuning hyperparameters is shown.

    Its target has no test part: nothing that tuning decides can come from one.
    """

    TESTED: ClassVar[bool] = False

    def finish(self) -> dict[str, float]:
        self.places.artifacts.mkdir(parents=True, exist_ok=True)
        self.target.write_split(self.places.artifacts)
        self._leave_weights()
        return {
            f"val_{self.spec.dataset.metric}": self._best_metric,
            "best_epoch": float(self._best_epoch),
            "epochs": float(self.epoch),
        }
