"""The rows of a table, as data: which network, which pretraining, which adaptation.

Every Python file in this folder may define `METHODS`, a tuple of `Method`. Adding a row to the
table is adding a file. So may a file that a study names (`method_files`) and a module that an
installed package offers as entry point of the group `hdsweep.methods`. No torch here: the planner
reads these.
"""

import pkgutil
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

from trainables.registry import import_from

ENTRY_POINTS = "hdsweep.methods"
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
    code: Path | None = None
    """Folder of the user's file that defines it; None for installed ones."""


class MethodFileError(Exception):
    """A file of methods cannot be used."""


_ADDED: dict[str, Method] = {}
"""By name: those of files that studies named, in this process."""


def all_methods() -> dict[str, Method]:
    """Return every method by name: those of Table 2 in its order, then additions by file name.

    Raises:
        ValueError: if two files define the same name.
    """
    return _installed() | _ADDED


@cache
def _installed() -> dict[str, Method]:
    files = sorted(module.name for module in pkgutil.iter_modules(__path__))
    files.sort(key=lambda name: name != "table2")
    methods: dict[str, Method] = {}
    for name in files:
        _add(methods, import_module(f"{__name__}.{name}").METHODS, f"{name}.py")
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        _add(methods, entry.load().METHODS, f"the entry point `{entry.name}`")
    return methods


def _add(methods: dict[str, Method], more: Iterable[Method], where: str) -> None:
    for method in more:
        if method.name in methods:
            raise ValueError(f"method `{method.name}` is defined twice, again in {where}")
        methods[method.name] = method


def add_method_file(path: Path) -> tuple[Method, ...]:
    """Make the methods of a Python file known to this process, and return them.

    Raises:
        MethodFileError: if the file is missing, fails to run, has a name that no module can have or
            that is taken, defines no `METHODS`, or one whose name is taken.
    """
    path = path.absolute()
    if not path.is_file():
        raise MethodFileError(f"no method file {path}")
    if not re.fullmatch(r"[A-Za-z_]\w*", path.stem) or path.suffix != ".py":
        raise MethodFileError(f"method file {path}: must be called like a module, such as mine.py")
    import_from(path.parent)
    try:
        module = import_module(path.stem)
    except Exception as error:
        raise MethodFileError(f"method file {path}: {type(error).__name__}: {error}") from error
    if Path(module.__file__ or "") != path:
        raise MethodFileError(f"method file {path}: the module name `{path.stem}` is taken")
    defined = getattr(module, "METHODS", None)
    if not isinstance(defined, tuple) or not all(isinstance(each, Method) for each in defined):
        raise MethodFileError(f"method file {path}: defines no tuple METHODS of `Method`")
    added = tuple(replace(method, code=path.parent) for method in defined)
    for method in added:
        if method.name in _installed() or _ADDED.get(method.name, method).code != path.parent:
            raise MethodFileError(f"method file {path}: the name `{method.name}` is taken")
        _ADDED[method.name] = method
    return added


def groups() -> dict[str, tuple[str, ...]]:
    """Return the names that stand for several rows of Table 2: baselines, hybrid, all."""
    table2 = import_module(f"{__name__}.table2").METHODS
    return {
        "baselines": tuple(method.name for method in table2 if not method.proposed),
        "hybrid": tuple(method.name for method in table2 if method.proposed),
        "all": tuple(method.name for method in table2),
    }
