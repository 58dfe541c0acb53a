"""The rows of a table, as data: which network, which pretraining, which adaptation.

Every Python file in this folder may define `METHODS`, a tuple of `Method`. Adding a row to the
table is adding a file. No torch here: the planner reads these.
"""

import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Literal

Family = Literal["adm", "deeplab", "segformer"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One row: how a network comes to segment a target dataset."""

    name: str
    title: str
    """As printed in the table."""
    network: Family
    pretraining: str | None
    """Task of `trainables.registry` run on the source dataset; None starts without one."""
    adaptation: str
    """Task of `trainables.registry` run on the target dataset."""
    imagenet: bool = False
    """Whether the encoder starts from ImageNet-1K weights."""
    proposed: bool = False
    """The paper's proposal rather than a baseline."""


@cache
def all_methods() -> dict[str, Method]:
    """Return every method by name: those of Table 2 in its order, then additions by file name.

    Raises:
        ValueError: if two files define the same name.
    """
    files = sorted(module.name for module in pkgutil.iter_modules(__path__))
    files.sort(key=lambda name: name != "table2")
    methods: dict[str, Method] = {}
    for name in files:
        for method in import_module(f"{__name__}.{name}").METHODS:
            if method.name in methods:
                raise ValueError(f"method `{method.name}` is defined twice, again in {name}.py")
            methods[method.name] = method
    return methods


def groups() -> dict[str, tuple[str, ...]]:
    """Return the names that stand for several rows of Table 2: baselines, hybrid, all."""
    table2 = import_module(f"{__name__}.table2").METHODS
    return {
        "baselines": tuple(method.name for method in table2 if not method.proposed),
        "hybrid": tuple(method.name for method in table2 if method.proposed),
        "all": tuple(method.name for method in table2),
    }
