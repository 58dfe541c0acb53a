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
        fused: clip and step in one pass over the weights.
        own_gradients: add gradients up in memory that is theirs for good, instead of keeping what the
            backward pass of the first micro-batch returns: a CUDA graph writes there again.
    """

    def __init__(
        self,
        network: nn.Module,
        config: OptimizerConfig,
        *,
        ema: bool = False,
        fused: bool = False,
        own_gradients: bool = False,
    ) -> None:
        self._parameters = list(network.parameters())
        self._limit = config.clip_norm if config.clip_norm is not None else float("inf")
        self._fused, self._own_gradients = fused, own_gradients
        if own_gradients:
            for parameter in self._parameters:
                parameter.grad = torch.zeros_like(parameter)
        self._optimizer: Any = torch.optim.AdamW(
            self._parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            eps=config.eps,
            fused=fused or None,
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
        loss, norm = self._accumulated(shares)
        if torch.isfinite(norm):
            self._step(norm)
        return loss.item(), norm.item()

    def update_unwatched(self, shares: Iterable[Tensor]) -> Tensor:
        """Do one update without waiting for the device; return loss and norm as a tensor of two there.

        A gradient that is not finite spoils the weights, unless the optimizer is fused: nothing that
        follows may be kept before the caller has looked at the norm.
        """
        loss, norm = self._accumulated(shares)
        self._step(norm)
        return torch.stack([loss, norm])

    def _accumulated(self, shares: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the loss and the norm of its gradient, which is then clipped unless the step does it."""
        self._optimizer.zero_grad(set_to_none=not self._own_gradients)
        loss = torch.zeros((), device=self._parameters[0].device)
        for share in shares:
            share.backward()
            loss += share.detach()
        if not self._fused:
            return loss, nn.utils.clip_grad_norm_(self._parameters, self._limit)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        return loss, nn.utils.get_total_norm(gradients)

    def _step(self, norm: Tensor) -> None:
        if self._fused:
            # What gradient scalers tell an optimizer: divide by this, and skip the step if that is not 0.
            self._optimizer.grad_scale = (norm / self._limit).clamp(min=1.0)
            self._optimizer.found_inf = (~torch.isfinite(norm)).float()
        self._optimizer.step()
        self._schedule.step()
        if self.ema is not None:
            self.ema.step(self._parameters)

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
