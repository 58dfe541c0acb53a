"""`sweep.json`: what a stored sweep is, beside its table in the home, so that a lost database loses none of it.

It is written when a sweep begins and when it ends, among the artifacts of the sweep's MLflow run. From it the
plan can be made again (`Recipe`), by name, whatever became of the study file.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.plan.identity import Identity, distinct
from orchestrator.plan.plan import Plan
from orchestrator.store.home.home import Home, write_whole
from orchestrator.study.recipe import Recipe

FILE = "sweep.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Session:
    """One `hdsweep run` of a sweep."""

    command: str
    """As it was typed, without secrets."""
    began: str
    """Date and time in UTC: `2026-11-30T22:45:00+00:00`."""
    seconds: float | None = None
    """Wall time; None while it runs, and if it was killed."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """A stored sweep."""

    identity: Identity
    title: str
    recipe: Recipe | None
    seeds: tuple[int, ...]
    planned: int
    """Runs of its plan."""
    complete: bool = False
    """Whether all of them are stored."""
    sessions: tuple[Session, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    """Tags of its MLflow run."""

    @property
    def status(self) -> str:
        """What MLflow is told of it: one whose last command never ended was killed."""
        if self.complete:
            return "FINISHED"
        return "FAILED" if self.sessions and self.sessions[-1].seconds is not None else "KILLED"

    @property
    def began_ms(self) -> int | None:
        """When the first command began, in milliseconds since 1970."""
        if not self.sessions:
            return None
        return int(datetime.fromisoformat(self.sessions[0].began).timestamp() * 1000)

    @property
    def command(self) -> str:
        """The command that was run last."""
        return self.sessions[-1].command if self.sessions else ""

    @property
    def date(self) -> str:
        """When that was begun."""
        return self.sessions[-1].began if self.sessions else ""

    @property
    def seconds(self) -> float:
        """Wall time of all commands together, as far as they ended."""
        return sum(each.seconds or 0.0 for each in self.sessions)

    @property
    def run_name(self) -> str:
        """What the sweep is called in MLflow."""
        return f"{self.title} ({self.identity.scale}{self.identity.varied})"

    def begun(self, plan: Plan, command: str) -> "Description":
        """Return it at the start of another command."""
        fresh = describe(plan)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return replace(fresh, sessions=(*self.sessions, Session(command=command, began=now)))

    def ended(self, seconds: float, *, complete: bool) -> "Description":
        """Return it at the end of the command that began last."""
        *before, last = self.sessions
        last = replace(last, seconds=round(seconds, 1))
        return replace(self, sessions=(*before, last), complete=complete)


def describe(plan: Plan) -> Description:
    """Return the description of a sweep that was not run yet."""
    return Description(
        identity=plan.identity,
        title=plan.title,
        recipe=plan.recipe,
        seeds=plan.seeds,
        planned=len(plan.runs),
        settings=plan.settings,
    )


def write(description: Description, folder: Path) -> None:
    """Write a description into the folder of its sweep's artifacts."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"version": VERSION, "name": description.identity.name, **asdict(description)}
    write_whole(folder / FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read(folder: Path) -> Description | None:
    """Return the description in a folder; None if there is none that can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if content["version"] <= VERSION:
            return _parsed(content)
    return None


def every(home: Home) -> dict[str, Description]:
    """Return the sweeps that a home has folders of, by key; of two of one key that begun last."""
    found: dict[str, Description] = {}
    for _, each in _folders(home):
        key = each.identity.key
        if key not in found or found[key].date <= each.date:
            found[key] = each
    return found


def known_names(home: Home) -> dict[str, str]:
    """Return the name of each sweep of a home by its key; no two are the same."""
    return distinct({key: each.identity.name for key, each in every(home).items()})


def _folders(home: Home) -> Iterator[tuple[Path, Description]]:
    for file in sorted(home.artifacts.glob(f"*/artifacts/{FILE}")):
        description = read(file.parent)
        if description is not None:
            yield file.parent, description


def _parsed(content: Mapping[str, Any]) -> Description:
    identity = dict(content["identity"])
    identity["differences"] = tuple((path, value) for path, value in identity["differences"])
    identity["subset"] = tuple(identity["subset"])
    return Description(
        identity=Identity(**identity),
        title=content["title"],
        recipe=_recipe(content["recipe"]),
        seeds=tuple(content["seeds"]),
        planned=content["planned"],
        complete=content["complete"],
        sessions=tuple(Session(**each) for each in content["sessions"]),
        settings=content["settings"],
        labels=content["labels"],
    )


def _recipe(content: Mapping[str, Any] | None) -> Recipe | None:
    if content is None:
        return None
    lists = ("overrides", "methods", "targets", "seeds")
    tuples = {name: tuple(content[name]) for name in lists if content[name] is not None}
    return Recipe(**{**content, **tuples})
