"""`group.json`: what a search or a trial is, beside its other artifacts, so that a lost database loses none of it.

The MLflow run of a group stands for several others. Each change of it is written here too, whole.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.store.home.home import write_whole

FILE = "group.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group, as it is stored."""

    name: str
    """Its own in the home: `search/lambda-isic2018/3`."""
    title: str
    started_ms: int
    tags: Mapping[str, str] = field(default_factory=dict)
    above: str | None = None
    """Name of the group that it is below."""
    params: Mapping[str, Any] = field(default_factory=dict)
    status: str = "RUNNING"
    points: tuple[tuple[str, float, int, int], ...] = ()
    """Name, value, step and time in milliseconds of each logged value."""


def write(group: Group, folder: Path) -> None:
    """Write a group into the folder of its artifacts."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / FILE, json.dumps({"version": VERSION, **asdict(group)}, indent=1) + "\n")


def read(folder: Path) -> Group | None:
    """Return the group of a folder; None if it is none, or cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if content.pop("version") <= VERSION:
            points = tuple((str(n), float(v), int(s), int(t)) for n, v, s, t in content["points"])
            return Group(**{**content, "points": points})
    return None


def change(
    folder: Path,
    *,
    tags: Mapping[str, str] | None = None,
    status: str | None = None,
    points: Iterable[tuple[str, float, int, int]] = (),
) -> None:
    """Write what changed of a group; one that was made before groups were written down has no file."""
    group = read(folder)
    if group is not None:
        fresh = replace(
            group,
            tags={**group.tags, **(tags or {})},
            status=status or group.status,
            points=(*group.points, *points),
        )
        write(fresh, folder)
