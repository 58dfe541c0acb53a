"""What MLflow shows of a run's settings: its own, those it starts from, and its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.study.checking import flat

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

START = "start."  # Before the settings of the pretraining that a run starts from.
DIGEST_LETTERS = 16  # Of a fingerprint; MLflow takes 36.
MOST_PARAMETERS = 100  # That MLflow takes at once.


def parameters(spec: Mapping[str, Any], start: Mapping[str, Any] | None) -> dict[str, object]:
    """Return the settings of a run by their paths in its spec.

    Args:
        start: spec of the pretraining that it starts from, lambda among it; its training stands
            beside the run's own, so that one list can be sorted by either.
    """
    own = flat(spec)
    before = flat(start.get("training", {})) if start else {}
    named = {f"{START}{name}": value for name, value in before.items()}
    return dict([*own.items(), *named.items()][:MOST_PARAMETERS])


def starts_from_another(artifacts: Path) -> bool:
    """Return whether the run that left these artifacts started from another's weights."""
    with suppress(OSError, ValueError, AttributeError):
        spec = json.loads((artifacts / "spec.json").read_text(encoding="utf-8"))
        return spec.get("pretrained") is not None
    return False


def dataset_input(spec: Mapping[str, Any]) -> DatasetInput | None:
    """Return the data of a run as MLflow notes it; None if the spec names none."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = spec.get("dataset")
    if not data:
        return None
    shown = {name: data.get(name) for name in ("image_size", "classes", "generated")}
    dataset = Dataset(
        name=str(data["name"]),
        digest=str(data.get("fingerprint"))[:DIGEST_LETTERS],
        source_type="hdsweep",
        source=json.dumps({"name": data["name"], "fingerprint": data.get("fingerprint")}),
        profile=json.dumps(shown),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", str(spec.get("stage")))])
