"""The one place that knows which tasks exist: a name, and the class that runs it.

Entries are strings, so that listing tasks or checking a study imports no torch. A task from
outside is named by its own `module:Class`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainables.loop import Run

TASKS = {
    "diffusion": "trainables.pretraining.diffusion:DiffusionPretraining",
    "hybrid": "trainables.pretraining.hybrid:HybridPretraining",
    "supervised": "trainables.pretraining.supervised:SupervisedPretraining",
    "finetune": "trainables.adaptation.finetune:FineTuning",
    "ledm": "trainables.adaptation.ledm:Ledm",
}


def load(task: str) -> type[Run]:
    """Import and return the class that runs `task`.

    Raises:
        KeyError: if `task` is neither registered nor of the form `module:Class`.
    """
    path = task if ":" in task else TASKS[task]
    module, _, attribute = path.partition(":")
    loaded: type[Run] = getattr(import_module(module), attribute)
    return loaded
