"""Every setting of a study as it came out, for people and machines to read; nothing is decided by it."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.study.checking import flat
from orchestrator.study.settings import DEFAULTS, Layer, resolve, tree_of
from orchestrator.study.study import Study

USUAL = flat(DEFAULTS)


def resolved_settings(study: Study, upper: Sequence[Layer]) -> dict[str, Any]:
    """Return each setting by its path, and what differs for one source, target or method.

    Args:
        upper: layers above the study's: scale and `--set`.

    Returns:
        `{"pretraining.updates": 40000, ..., "for celebamask_hq": {"pretraining.updates": 90000}}`
    """
    general = flat(tree_of(resolve([study.general, *upper])))
    particular = {**study.by_source, **study.by_target, **study.by_method}
    found: dict[str, Any] = dict(general)
    for name, layer in particular.items():
        own = flat(tree_of(resolve([study.general, layer, *upper])))
        differing = {path: value for path, value in own.items() if value != general[path]}
        if differing:
            found[f"for {name}"] = differing
    return found


def lines(settings: Mapping[str, Any]) -> list[str]:
    """Return `path = value` for each setting, with the default where that is another."""
    found: list[str] = []
    for path, value in settings.items():
        if isinstance(value, Mapping):
            found += [f"{path}: {line}" for line in lines(value)]
        else:
            besides = "" if value == USUAL[path] else f" (default: {_shown(USUAL[path])})"
            found.append(f"{path} = {_shown(value)}{besides}")
    return found


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(list(value) if isinstance(value, tuple) else value)
