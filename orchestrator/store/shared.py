"""What the parts of the store share: the runs of MLflow that it keeps, and how it writes to them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.store.book import LONGEST_TAG, Book
from orchestrator.store.home.home import Home
from orchestrator.store.home.run_folders import RunFolders
from orchestrator.store.tracking.database import Known

if TYPE_CHECKING:
    from mlflow.entities import Metric

SUMMARY, GROUP = "hdsweep.summary", "hdsweep.group"


class StoreParts:
    """What the store is made of: MLflow runs by name, folders, and the book that both are written in."""

    home: Home
    _folders: RunFolders
    _runs: dict[str, Known]
    """By key."""
    _parents: dict[str, Known]
    """Sweeps by key; those of before sweeps had one by `study/scale`."""
    _summaries: dict[str, Known]
    _groups: dict[str, Known]
    _logged: dict[str, set[tuple[str, int]]]

    @cached_property
    def _book(self) -> Book:
        raise NotImplementedError

    def _write(self, where: dict[str, Known], name: str, **what: Any) -> None:
        """Write to the MLflow run that is kept under a name, and keep what it is then."""
        where[name] = self._book.write(where[name], **what)

    def _artifacts_of(self, run_id: str) -> Path:
        return self._folders.artifacts_of(run_id)

    def _move_artifacts(self, folder: Path, known: Known) -> None:
        """Make a folder that of the artifacts of a run."""
        self._folders.move(folder, self._artifacts_of(known.run_id))
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def metric(name: str, value: float, time_ms: int, step: int) -> Metric:
    from mlflow.entities import Metric

    return Metric(name, value, time_ms, step)


def prefixed(values: Mapping[str, object]) -> dict[str, str]:
    return {f"hdsweep.{name}": str(value)[:LONGEST_TAG] for name, value in values.items()}
