"""What every run is: something that advances, can be saved at any point, and ends with artifacts.

`Run` owns what all runs share: the update counter, the logged history, the random streams and the
rule that a checkpoint holds all of it. A task (pretraining, fine-tuning, LEDM) adds its own state.
Whatever calls `advance` how often, and wherever it is interrupted, the result is the same.
"""

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.config import RunSpec
from trainables.history import Point
from trainables.seeding import rng_state, seed_everything, set_numerics, set_rng_state

CHECKPOINT_VERSION = 1


class Diverged(Exception):
    """The loss is not a number any more. Permanent: the same run would diverge again."""

    def __init__(self, update: int, last_finite_loss: float | None) -> None:
        self.update, self.last_finite_loss = update, last_finite_loss
        last = "none before" if last_finite_loss is None else f"last finite {last_finite_loss:.6g}"
        super().__init__(f"loss is not finite at update {update} ({last})")

    def __reduce__(self) -> tuple[type["Diverged"], tuple[int, float | None]]:
        return type(self), (self.update, self.last_finite_loss)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where one run reads and writes. Never part of its key: moving files changes no result."""

    dataset: Path
    """Folder of the prepared dataset."""
    checkpoints: Path
    """Folder of this run's checkpoints; belongs to its key, whatever the attempt."""
    artifacts: Path
    """Folder that this attempt fills."""
    pretrained: Path | None = None
    """Artifact folder of the pretraining: weights.safetensors and spec.json."""
    backbone: Path | None = None
    """File of ImageNet weights for the encoder."""
    continued: Path | None = None
    """Training state that the same run with fewer updates left; it goes on from there."""
    leave_state: Path | None = None
    """Folder to leave the training state in at the end, for a run with more updates."""
    code: Path | None = None
    """Folder of the module that a task of the user's own is in."""
    device: str = "cpu"
    keep_weights: bool = True
    """Whether a fine-tuning leaves its weights; a pretraining always does."""
    micro_batch: int | None = None
    """Images in memory at once, where those of the spec were too many. The batch stays; sums are
    rounded and dropout is drawn in another order, which the result records."""


class Run(ABC):
    """One training. Subclasses build everything in `__init__` and keep it in their state."""

    def __init__(self, spec: RunSpec, places: Places) -> None:
        self.spec, self.places = spec, places
        self.micro_batch: int | None = places.micro_batch or getattr(
            spec.training, "micro_batch", None
        )
        self.update = 0
        self.history: list[Point] = []
        self._last_finite_loss: float | None = None
        set_numerics(spec.compute)
        seed_everything(spec.seed)

    @property
    def beside(self) -> bool:
        """Whether a device trains while this process does something else: a GPU does."""
        return not self.places.device.startswith("cpu")

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether nothing is left to train."""

    @property
    @abstractmethod
    def fraction(self) -> float:
        """Part that is done, in [0, 1]; an upper limit's share where the end is not known."""

    @abstractmethod
    def advance(self) -> None:
        """Train one optimizer update, and whatever is due after it.

        Raises:
            Diverged: if the loss or the gradient is not finite.
        """

    @abstractmethod
    def own_state(self) -> dict[str, Any]:
        """Return what the task needs to go on: tensors, numbers, strings, lists, dicts."""

    @abstractmethod
    def load_own_state(self, state: dict[str, Any]) -> None:
        """Take back what `own_state` returned, its tensors now on the CPU."""

    @abstractmethod
    def finish(self) -> dict[str, float]:
        """Write the artifacts and return the final metrics. May be called again after a kill."""

    def log(self, name: str, value: float) -> None:
        """Append to the history at the current update."""
        self.history.append(Point(name, self.update, float(value), time.time_ns() // 1_000_000))

    def settle(self) -> None:  # noqa: B027 - most runs leave nothing unseen
        """Look at what was left on the device so as not to wait for it; nothing by default.

        Called before anything is kept.

        Raises:
            Diverged: if a loss or gradient since the last look is not finite.
        """

    def checked(
        self, loss: float, gradient_norm: float = 0.0, *, update: int | None = None
    ) -> float:
        """Return `loss`, or stop the run.

        Args:
            update: that it is of; the current one by default.

        Raises:
            Diverged: if `loss` or `gradient_norm` is infinite or not a number.
        """
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise Diverged(self.update if update is None else update, self._last_finite_loss)
        self._last_finite_loss = loss
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides how the run goes on.

        Raises:
            Diverged: if that is found out only now.
        """
        self.settle()
        return {
            "version": CHECKPOINT_VERSION,
            "key": self.spec.key,
            "update": self.update,
            "last_finite_loss": self._last_finite_loss,
            "history": [[p.name, p.step, p.value, p.time_ms] for p in self.history],
            "own": self.own_state(),
            "rng": rng_state(self.places.device),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ValueError: if the state belongs to another run.
        """
        if (state["version"], state["key"]) != (CHECKPOINT_VERSION, self.spec.key):
            raise ValueError(f"checkpoint of run {state['key']} offered to run {self.spec.key}")
        self.update = state["update"]
        self._last_finite_loss = state["last_finite_loss"]
        self.history = [Point(*point) for point in state["history"]]
        self.load_own_state(state["own"])
        # Last: building and loading networks may itself draw.
        set_rng_state(state["rng"], self.places.device)
