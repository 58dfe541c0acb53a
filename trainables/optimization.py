"""One optimizer update: accumulate, clip, step, move the learning rate and the average.

AdamW with a linear warm-up to a constant rate; the first update of a warm-up has rate 0, as in the
diffusers training loop that the paper builds on.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.optimization import get_constant_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from trainables.config import OptimizerConfig


class Descent:
    """The optimizer of one network, with all the state that an update leaves behind.

    Args:
        network: what is trained, all of its parameters.
        config: rates and limits.
        ema: keep an exponential moving average, decay min(0.9999, 1 - (1 + update)^(-3/4)).
    """

    def __init__(self, network: nn.Module, config: OptimizerConfig, *, ema: bool = False) -> None:
        self._parameters = list(network.parameters())
        self._clip_norm = config.clip_norm
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            eps=config.eps,
        )
        self._schedule = get_constant_schedule_with_warmup(
            self._optimizer, num_warmup_steps=config.warmup_updates
        )
        self.ema = (
            EMAModel(self._parameters, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
            if ema
            else None
        )

    def update(self, shares: Iterable[Tensor]) -> tuple[float, float]:
        """Do one update and return the loss and the gradient norm before clipping.

        Args:
            shares: the share of each micro-batch in the loss, a scalar that sums to it. Lazy, so
                that the activations of one micro-batch are gone before the next is computed.

        A gradient that is not finite changes nothing: the caller sees it in the norm.
        """
        self._optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self._parameters[0].device)
        for share in shares:
            share.backward()
            loss += share.detach()
        limit = self._clip_norm if self._clip_norm is not None else float("inf")
        norm = nn.utils.clip_grad_norm_(self._parameters, limit)
        if torch.isfinite(norm):
            self._optimizer.step()
            self._schedule.step()
            if self.ema is not None:
                self.ema.step(self._parameters)
        return loss.item(), norm.item()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Lend the moving average to the network for a while, if one is kept."""
        if self.ema is None:
            yield
            return
        self.ema.store(self._parameters)
        self.ema.copy_to(self._parameters)
        try:
            yield
        finally:
            self.ema.restore(self._parameters)

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer, the schedule and the average."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
            self.ema.to(self._parameters[0].device)
