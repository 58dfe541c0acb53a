"""Whether machines can compile what a sweep wants compiled, asked before any of its runs is started."""

from collections.abc import Iterable

from orchestrator.errors import InputError
from trainables.compilers import why_not_compiled
from trainables.config import RunSpec


def ways_to_compile(specs: Iterable[RunSpec]) -> frozenset[str]:
    """Return the values of `compute.compile` that runs are compiled by, as they are written."""
    compiled = (s.compute.compile for s in specs if "compile" not in s.unread)
    return frozenset(str(way).lower() for way in compiled if way)


def require_compilers(specs: Iterable[RunSpec], *, gpu: bool) -> None:
    """Raise an InputError if this machine, whose runs are put on its GPUs or its CPU, cannot compile."""
    for way in sorted(ways_to_compile(specs)):
        trouble = why_not_compiled(way, gpu=gpu)
        if trouble:
            raise InputError(trouble)


def answers() -> dict[str, str]:
    """Return why this machine cannot compile, by way and kind of device, as a node answers it."""
    found = {
        f"{way}/{kind}": why_not_compiled(way, gpu=kind == "gpu")
        for way in ("true", "reduce-overhead")
        for kind in ("cpu", "gpu")
    }
    return {name: why for name, why in found.items() if why}
