"""The one place that knows which tasks exist: a name, and the class that runs it.

Entries are strings, so that listing tasks or checking a study imports no torch. A task from outside
is named by its own `module:Class`; where the module is a file of the user's, a hash of that file
follows, `module:Class@1a2b3c4d`, so that changed code is another run.
"""

from __future__ import annotations

import hashlib
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainables.loop import Run

TASKS = {
    "diffusion": "trainables.pretraining.diffusion:DiffusionPretraining",
    "hybrid": "trainables.pretraining.hybrid:HybridPretraining",
    "supervised": "trainables.pretraining.supervised:SupervisedPretraining",
    "finetune": "trainables.adaptation.finetune:FineTuning",
    "finetune_validation": "trainables.adaptation.finetune:ValidatedFineTuning",
    "ledm": "trainables.adaptation.ledm:Ledm",
}
HASH_DIGITS = 8


def load(task: str, code: Path | None = None) -> type[Run]:
    """Import and return the class that runs `task`.

    Args:
        code: folder to import the module of a `module:Class` from, besides what is installed.

    Raises:
        KeyError: if `task` is neither registered nor of the form `module:Class`.
        ValueError: if the user's file is not the one that the task was planned with, or another
            module has its name.
    """
    path = task if ":" in task else TASKS[task]
    path, _, planned = path.partition("@")
    if code is not None and planned:
        if versioned(path, code) != task:
            raise ValueError(f"{_file(path, code)} changed since `{path}` was planned: run again")
        import_from(code)
    name, _, attribute = path.partition(":")
    module = import_module(name)
    if code is not None and planned and not _same(module.__file__, _file(path, code)):
        raise ValueError(f"the module name `{name}` is taken by {module.__file__}")
    loaded: type[Run] = getattr(module, attribute)
    return loaded


def versioned(task: str, code: Path) -> str:
    """Return `module:Class` with the hash of the module's file in `code`, if it lies there."""
    file = _file(task, code)
    if "@" in task or not file.is_file():
        return task
    return f"{task}@{hashlib.sha256(file.read_bytes()).hexdigest()[:HASH_DIGITS]}"


def import_from(folder: Path) -> None:
    """Let modules be imported from a folder, after everything that is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _same(one: str | None, other: Path) -> bool:
    return one is not None and Path(one).samefile(other)


def _file(task: str, code: Path) -> Path:
    return code / f"{task.partition(':')[0]}.py"
