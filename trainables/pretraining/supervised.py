"""Supervised pretraining: pixel cross-entropy on clean source images at timestep 0.

A seeded part of the source is held out; the weights that score best on it are the ones kept. With
`hold_out = 0` the whole source is trained on and the last weights are kept. `hold_out.json` has the ids.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainables.atomic_files import write_atomically
from trainables.config import RunSpec
from trainables.data.feeding.splits import hold_out
from trainables.evaluation import score, segment_with
from trainables.loop import Places
from trainables.losses.accumulated import segmentation_shares
from trainables.networks.start import pretraining_outputs
from trainables.pretraining.base import Pretraining

TIMESTEP = 0  # The condition under which the network is fine-tuned later.


class SupervisedPretraining(Pretraining):
    """Segment the source; the same task for the ADM, DeepLab and SegFormer."""

    def __init__(self, spec: RunSpec, places: Places) -> None:
        super().__init__(spec, places)
        train, held = hold_out(self.data.ids, self.config.hold_out, spec.seed)
        self._train = np.asarray(train, dtype=np.int64)
        self._held = np.asarray(held, dtype=np.int64)
        self._predict = segment_with(
            self.network,
            timestep=TIMESTEP,
            device=places.device,
            bf16=spec.compute.bf16_evaluation,
        )
        self._best_metric = float("-inf")
        self._best_weights: dict[str, Tensor] = {}

    @property
    def outputs(self) -> int:
        return pretraining_outputs("supervised", self.spec.dataset.classes)

    @property
    def indices(self) -> NDArray[np.int64]:
        return self._train

    def shares(self, images_BCHW: Tensor, labels_BHW: Tensor) -> Iterator[Tensor]:
        return segmentation_shares(
            self.answer,
            images_BCHW,
            labels_BHW,
            timestep=TIMESTEP,
            micro_batch=self.micro_batch,
        )

    def after_update(self) -> None:
        due = self.update % self.config.evaluate_every == 0 or self.done
        if not due or not len(self._held):
            return
        self.settle()
        with self.descent.averaged():
            scores = score(
                self.data, self._held, self.spec.dataset, self._predict, self.places.device
            )
            self._keep_if_best(scores[self.spec.dataset.metric])

    def own_state(self) -> dict[str, Any]:
        best = {"best_metric": self._best_metric, "best_weights": self._best_weights}
        return {**super().own_state(), **best}

    def load_own_state(self, state: dict[str, Any]) -> None:
        super().load_own_state(state)
        self._best_metric = state["best_metric"]
        self._best_weights = state["best_weights"]

    def finish(self) -> dict[str, float]:
        finished = super().finish()
        content = json.dumps(self.split_ids(), indent=1)
        write_atomically(self.places.artifacts / "hold_out.json", content.encode())
        return {**finished, "best_val": self._best_metric} if self._best_weights else finished

    def split_ids(self) -> dict[str, list[str]]:
        """Return the sample ids that are trained on and those that are held out."""
        parts = {"train": self._train, "hold_out": self._held}
        return {name: [self.data.ids[i] for i in indices] for name, indices in parts.items()}

    def final_weights(self) -> dict[str, Tensor]:
        """Return the weights that scored best on the hold-out, or the last ones without one."""
        return self._best_weights or super().final_weights()

    def _keep_if_best(self, metric: float) -> None:
        self.log(f"val_{self.spec.dataset.metric}", metric)
        if metric > self._best_metric:
            self._best_metric = metric
            self._best_weights = self.weights()
