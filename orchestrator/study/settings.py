"""Every setting of a study as one tree, and the layers of differences that make it up.

The defaults are those of `trainables.config`, which are the paper's. On top of them lie, each one
overruling those before it: the study's general tables, its tables for a source, a target and a
method, the scale, and `--set`. A scale overrules the study because it says what a machine can do;
what it overrules is told (`overruled`), so that no setting is silently without effect.
"""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from orchestrator.errors import InputError, UnknownNameError
from orchestrator.study.checking import Place, Tree, check, flat, keys_of, merge
from trainables.bounds import Images, Side
from trainables.config import (
    AdmConfig,
    ComputeConfig,
    DeepLabConfig,
    FineTuningConfig,
    Frozen,
    LedmConfig,
    NetworkConfig,
    PretrainingConfig,
    SegFormerConfig,
)
from trainables.methods import Family


class NetworkSettings(Frozen):
    """One configuration for each family of networks."""

    adm: AdmConfig = AdmConfig()
    deeplab: DeepLabConfig = DeepLabConfig()
    segformer: SegFormerConfig = SegFormerConfig()

    def of(self, family: Family) -> NetworkConfig:
        """Return the configuration of one family."""
        network: NetworkConfig = getattr(self, family)
        return network


class DataSettings(Frozen):
    """Which images, and how large."""

    generated: bool = False
    """Put the generated stand-in `<name>-like` in the place of every dataset."""
    image_size: Side = 256
    """Side in pixels of what the networks see."""
    source_images: Images | None = None
    """Images to generate for each source; None leaves it to the stand-in."""
    target_images: Images | None = None
    """Images to generate for each target; None leaves it to the stand-in."""


class Settings(Frozen):
    """All that a study can set, resolved for one source, target and method."""

    networks: NetworkSettings = NetworkSettings()
    pretraining: PretrainingConfig = PretrainingConfig()
    fine_tuning: FineTuningConfig = FineTuningConfig()
    ledm: LedmConfig = LedmConfig()
    compute: ComputeConfig = ComputeConfig()
    data: DataSettings = DataSettings()


@dataclass(frozen=True)
class Layer:
    """A part of the tree of settings, and where the user wrote it. Made by `layer`, so correct."""

    place: Place
    tree: Tree = field(default_factory=dict)

    @property
    def leaves(self) -> dict[str, Any]:
        """The values by dotted path."""
        return flat(self.tree)


def layer(place: Place, tree: Tree) -> Layer:
    """Return a layer whose keys exist and whose values are allowed.

    Raises:
        InputError: if not; the message has the place.
    """
    check(Settings, merge(DEFAULTS, tree), place)
    return Layer(place, tree)


def resolve(layers: Sequence[Layer]) -> Settings:
    """Return the defaults with all layers on top, the last one uppermost.

    Raises:
        InputError: if settings that are allowed one by one do not fit together.
    """
    tree = DEFAULTS
    for each in layers:
        tree = merge(tree, each.tree)
    settings: Settings = check(Settings, tree, Place("the settings"))
    if settings.compute.contradiction:
        raise InputError(settings.compute.contradiction)
    return settings


def overruled(lower: Iterable[Layer], upper: Layer, *, title: str) -> tuple[str, ...]:
    """Return a sentence for each value of `lower` layers that `upper` replaces by another."""
    above = upper.leaves
    return tuple(
        f"{title} has {path} = {above[path]}, which overrules {value} in {each.place}"
        for each in lower
        for path, value in each.leaves.items()
        if path in above and above[path] != value
    )


def set_layer(flags: Sequence[str]) -> Layer:
    """Return the layer of all `--set path.to.field=value` flags; a later one overrules.

    Raises:
        UnknownNameError: if there is no such field.
        InputError: if the flag has no `=`, or the field does not take the value.
    """
    tree: Tree = {}
    known = setting_paths(Settings)
    for flag in flags:
        path, equals, text = (part.strip() for part in flag.partition("="))
        place = Place(f"--set {flag}", is_file=False)
        if not equals or not path:
            raise InputError(f"--set takes path.to.field=value, got `{flag}`")
        if path not in known:
            raise UnknownNameError("setting", path, known, where=str(place))
        one = _nested(path.split("."), value_of(text))
        layer(place, one)
        tree = merge(tree, one)
    return Layer(Place("--set", is_file=False), tree)


def setting_paths(model: type[BaseModel], prefix: str = "") -> tuple[str, ...]:
    """Return the dotted path of every field that can be set."""
    paths: list[str] = []
    for name in keys_of(model):
        inner = model.model_fields[name].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            paths += setting_paths(inner, f"{prefix}{name}.")
        else:
            paths.append(f"{prefix}{name}")
    return tuple(paths)


def tree_of(model: BaseModel) -> Tree:
    """Return the fields of a value that a user can write, as a tree."""
    values = {name: getattr(model, name) for name in keys_of(type(model))}
    return {
        name: tree_of(value) if isinstance(value, BaseModel) else value
        for name, value in values.items()
    }


# Whole, not field by field: a table that sets one field of `optimizer` keeps its other defaults,
# which are those of this place rather than those of the optimizer.
DEFAULTS = tree_of(Settings())


def _nested(path: Sequence[str], value: object) -> Tree:
    return {path[0]: _nested(path[1:], value) if len(path) > 1 else value}


def value_of(text: str) -> object:
    """Return what `text` means in TOML, or the text itself: shells eat the quotes of strings."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # Not TOML, or a number of thousands of digits.
        return text
