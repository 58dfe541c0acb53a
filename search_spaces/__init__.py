"""What `hdsweep tune` searches: one file per space, each an Optuna define-by-run function.

A file defines `SPACE`. Adding a space is adding a file here, or naming one outside:
`hdsweep tune my_space.py`. Nothing here runs anything.
"""

import hashlib
import importlib.util
import json
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import optuna

Bounds = tuple[float, float]
Suggest = Callable[[optuna.Trial, "SearchSpace"], dict[str, float]]


class SpaceError(Exception):
    """A search space cannot be used as asked."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """A space: how a trial draws from it, and what is set by what it draws."""

    name: str
    title: str
    why: str
    """Why these ranges, in a sentence; it stands on the page with the answer."""
    settings: Mapping[str, str]
    """Path of the setting by the name of the parameter that gives its value."""
    suggest: Suggest
    """(trial, space) -> value by parameter; draws with `trial.suggest_...`."""
    bounds: Mapping[str, Bounds]
    """Range of each continuous parameter, both ends included."""
    grid: Mapping[str, Sequence[float]] | None = None
    """Values to try by parameter, for the grid sampler; None if the space has no grid."""
    reference: Mapping[str, float]
    """What the paper uses."""

    @property
    def pretrains(self) -> bool:
        """Whether a trial has a pretraining of its own, which rungs can cut short."""
        return bool(self.of_pretraining)

    @property
    def of_pretraining(self) -> tuple[str, ...]:
        """The parameters on which the pretraining depends: all but those of the fine-tuning."""
        paths = self.settings.items()
        return tuple(name for name, path in paths if not path.startswith("fine_tuning."))

    @property
    def fingerprint(self) -> str:
        """Hash of what can be drawn: two searches of one name never mix two spaces."""
        content: dict[str, Any] = {
            "settings": dict(self.settings),
            "bounds": {name: list(ends) for name, ends in self.bounds.items()},
            "grid": {name: list(values) for name, values in (self.grid or {}).items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    def within(self, low: float | None, high: float | None) -> "SearchSpace":
        """Return the space with other bounds of its first continuous parameter.

        Raises:
            SpaceError: if the bounds are upside down, not positive or not finite, or there is nothing
                to bound.
        """
        if low is None and high is None:
            return self
        if not self.bounds:
            raise SpaceError(f"space `{self.name}` has no continuous parameter to bound")
        name, ends = next(iter(self.bounds.items()))
        new = (ends[0] if low is None else low, ends[1] if high is None else high)
        if not 0 < new[0] < new[1] < math.inf:
            raise SpaceError(
                f"bounds of {name} must ascend from above 0 and be finite, got {new[0]} to {new[1]}"
            )
        grid = self.grid
        if grid and name in grid:
            grid = {**grid, name: tuple(v for v in grid[name] if new[0] <= v <= new[1])}
        return replace(self, bounds={**self.bounds, name: new}, grid=grid)


@cache
def all_spaces() -> dict[str, SearchSpace]:
    """Return the spaces of this folder by name."""
    modules = (import_module(f"{__name__}.{each.name}") for each in pkgutil.iter_modules(__path__))
    return {module.SPACE.name: module.SPACE for module in modules}


def load_space(file: Path) -> SearchSpace:
    """Return the space that a Python file of one's own defines.

    Raises:
        SpaceError: if there is no such file, it fails to run, defines no `SPACE`, or draws other
            parameters than it has settings for.
    """
    if not file.is_file():
        raise SpaceError(f"no space file {file}")
    spec = importlib.util.spec_from_file_location(f"search_space_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SpaceError(f"space file {file}: {type(error).__name__}: {error}") from error
    space = getattr(module, "SPACE", None)
    if not isinstance(space, SearchSpace):
        raise SpaceError(f"space file {file}: defines no SPACE of `search_spaces.SearchSpace`")
    try:
        values = _draw(space)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise SpaceError(f"space file {file}: `suggest` failed, {reason}") from error
    if values.keys() != space.settings.keys():
        raise SpaceError(
            f"space file {file}: `suggest` gives values of {', '.join(sorted(values)) or 'nothing'}, "
            f"`settings` names {', '.join(sorted(space.settings))}"
        )
    wrong = _wrong_numbers(space)
    if wrong:
        raise SpaceError(f"space file {file}: {wrong}")
    return space


def _wrong_numbers(space: SearchSpace) -> str:
    """Return what is wrong with the numbers of a space; empty if nothing is."""
    if space.reference.keys() != space.settings.keys():
        given = ", ".join(sorted(space.reference)) or "nothing"
        return f"`reference` gives {given}, `settings` names {', '.join(sorted(space.settings))}"
    for name, (low, high) in space.bounds.items():
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            return f"bounds of {name} must ascend and be finite, got {low} to {high}"
    values = [*space.reference.items()]
    values += [(name, each) for name, grid in (space.grid or {}).items() for each in grid]
    endless = [f"{name} {value}" for name, value in values if not math.isfinite(value)]
    return f"not a finite number: {', '.join(endless)}" if endless else ""


def _draw(space: SearchSpace) -> dict[str, float]:
    """Draw once, at random, from a study of its own."""
    told = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        return dict(space.suggest(study.ask(), space))
    finally:
        optuna.logging.set_verbosity(told)
