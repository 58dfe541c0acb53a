"""What does an update of the ADM take on a CPU: as it was, as it is, and in a plain loop?

Forward and backward of one batch and the optimizer's step, of the demo's ADM (32 channels, 24 px) and
of one of 128 channels at 64 px, one thread, in turns, so that what disturbs the machine disturbs all
alike:

- plain: the ADM in plain PyTorch (`plain_adm`) with `torch.optim.AdamW`, as a published loop does it;
- before: diffusers' own blocks, clipping and AdamW over tensors one by one;
- default: our blocks, the same bits as before;
- one layout, fused AdamW: the settings that are faster on a CPU, the same formula in other bits.

Times are of the processor, not of the clock: the machine may be shared. Ratios are of each round's
times, their median; `least` compares the shortest times.

    python benchmarks/step.py            # a few minutes; benchmarks/results/step.json
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from plain_adm import DiffusersAdm, PlainAdm, filled
from recording import asked, keep
from torch import Tensor

from trainables.config import AdmConfig, OptimizerConfig
from trainables.networks.adm import AdmUNet
from trainables.optimization import Descent

OUTPUTS = 5
DEMO = AdmConfig(
    channels=32, multipliers=(1, 1, 2), blocks_per_level=1, attention_rates=(4,), head_channels=32
)
CASES = {
    "demo: 32 channels, 24 px, batch of 16": (DEMO, 24, 16),
    "128 channels, 64 px, batch of 4": (AdmConfig(), 64, 4),
}
LOOPS = ("plain", "before", "default", "one layout, fused AdamW")
REFERENCES = ("plain", "before")


class Loop:
    """One way to train the ADM, on the same images at every call."""

    def __init__(self, name: str, config: AdmConfig, side: int, batch: int) -> None:
        network = {"plain": PlainAdm, "before": DiffusersAdm}.get(name, AdmUNet)(config, OUTPUTS)
        self._network = filled(network).train()
        if name == LOOPS[-1]:
            self._network.use_one_layout()
        self._images, self._t = torch.randn(batch, 3, side, side), torch.arange(batch) * 37
        self._plain = torch.optim.AdamW(network.parameters(), lr=1e-4)
        fused = name == LOOPS[-1]
        self._descent = None
        if name != "plain":
            self._descent = Descent(network, OptimizerConfig(lr=1e-4), fused=fused)

    def update(self) -> None:
        """Train on the batch once."""
        if self._descent is not None:
            self._descent.update([self._loss()])
            return
        self._plain.zero_grad(set_to_none=True)
        self._loss().backward()
        self._plain.step()

    def forward_and_backward(self) -> None:
        """The same without the optimizer."""
        self._network.zero_grad(set_to_none=True)
        self._loss().backward()

    def _loss(self) -> Tensor:
        answer: Tensor = self._network(self._images, self._t)
        return (answer[:, :3] - self._images).square().mean() + answer[:, 3:].square().mean()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    figures = {
        name: compared(case, arguments.rounds)
        for name, case in list(CASES.items())[: arguments.cases]
    }
    keep("step", {"threads": 1, "cases": figures}, dry_run=arguments.dry_run)


def parsed() -> argparse.Namespace:
    parser = asked(__doc__)
    parser.add_argument("--rounds", type=int, default=12, help="times each loop takes its turn")
    parser.add_argument("--cases", type=int, default=len(CASES), help="the first so many only")
    return parser.parse_args()


def compared(case: tuple[AdmConfig, int, int], rounds: int) -> dict[str, Any]:
    """Return seconds and ratios of an update, and of its forward and backward pass, in each loop."""
    loops = {name: Loop(name, *case) for name in LOOPS}
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(-1, rounds):  # The first warms up.
        for name in (*LOOPS[turn % len(LOOPS) :], *LOOPS[: turn % len(LOOPS)]):
            for what in ("update", "forward_and_backward"):
                took = timed(getattr(loops[name], what))
                if turn >= 0:
                    times.setdefault((name, what), []).append(took)
    return {
        what: {name: summary(times, name, what) for name in LOOPS}
        for what in ("update", "forward_and_backward")
    }


def timed(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def summary(times: dict[tuple[str, str], list[float]], name: str, what: str) -> dict[str, Any]:
    """Return seconds, and how they compare with the references: under 1 is faster than they are."""
    took = times[name, what]
    figures: dict[str, Any] = {"seconds": round(median(took), 4), "least": round(min(took), 4)}
    for reference in REFERENCES:
        other = times[reference, what]
        ratios = [mine / its for mine, its in zip(took, other, strict=True)]
        figures[f"to {reference}"] = round(median(ratios), 3)
        figures[f"least to {reference}"] = round(min(took) / min(other), 3)
    return figures


if __name__ == "__main__":
    main()
