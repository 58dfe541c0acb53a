"""Losses since the last logged one: looked at one by one, or left on the device until they are needed."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from trainables.loop import Run
from trainables.optimization import Descent


class Losses:
    """The losses of a run whose device may train while the process goes on.

    Args:
        run: is asked whether it trains `beside`, and stopped by a loss that is no number.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen: list[float] = []
        self._unseen: list[Tensor] = []

    def train(self, descent: Descent, shares: Iterable[Tensor]) -> None:
        """Do one update, and keep its loss.

        Raises:
            Diverged: if the loss or the gradient is not finite; later, where the run trains beside.
        """
        if self._run.beside:
            self._unseen.append(descent.update_unwatched(shares))
        else:
            self._seen.append(self._run.checked(*descent.update(shares)))

    def settle(self) -> None:
        """Look at what was left on the device.

        Raises:
            Diverged: if a loss or gradient since the last look is not finite, with its update.
        """
        unseen, self._unseen = self._unseen, []
        first = self._run.update - len(unseen)
        if unseen:
            for update, (loss, norm) in enumerate(torch.stack(unseen).tolist(), first):
                self._seen.append(self._run.checked(loss, norm, update=update))

    def mean(self) -> float:
        """Return the mean, and begin anew."""
        self.settle()
        seen, self._seen = self._seen, []
        return float(np.mean(seen))

    def state(self) -> list[float]:
        """Return what a checkpoint keeps, once all is settled."""
        return list(self._seen)

    def load(self, state: Iterable[float]) -> None:
        """Take back what `state` returned."""
        self._seen = list(state)
