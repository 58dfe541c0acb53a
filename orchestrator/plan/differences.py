"""How two run specs differ, in the words of study files: `fine_tuning.optimizer.lr`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.study.checking import flat

# What the training section of a spec is called in studies, by its kind.
SECTIONS = {"pretraining": "pretraining", "finetune": "fine_tuning", "ledm": "ledm"}

SpecJson = Mapping[str, Any]
"""A `RunSpec` as it is stored: `model_dump(mode="json")`."""


@dataclass(frozen=True)
class Difference:
    """One field with its values in two specs."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.path} {_shown(self.before)} -> {_shown(self.after)}"


def differences(before: SpecJson, after: SpecJson) -> tuple[Difference, ...]:
    """Return the fields whose values differ, in the order of `after`."""
    old, new = flat(_in_words(before)), flat(_in_words(after))
    paths = [*new, *(path for path in old if path not in new)]
    return tuple(
        Difference(path, old.get(path), new.get(path))
        for path in paths
        if old.get(path) != new.get(path)
    )


def _in_words(spec: SpecJson) -> dict[str, Any]:
    training, network = spec["training"], spec["network"]
    rest = {key: value for key, value in spec.items() if key not in ("training", "network")}
    # Absent and empty would differ from each other only.
    rest["pretrained"] = rest.get("pretrained") or {}
    return {
        **rest,
        f"networks.{network['family']}": network,
        SECTIONS[training["kind"]]: training,
    }


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
