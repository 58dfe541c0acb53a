"""What made a table: sweep, command, date, settings, study; every format carries it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestrator.plan.identity import Identity, sweep_record
from orchestrator.plan.plan import Plan
from orchestrator.study.resolved import lines
from orchestrator.wording import duration

if TYPE_CHECKING:
    from orchestrator.store.sweeps.file import Description

DATA_FILES = ("table.csv", "table.parquet", "table.json")


@dataclass(frozen=True)
class Made:
    """What made a table."""

    identity: Identity
    command: str
    """The `hdsweep run` that began last, without secrets; empty if none has."""
    date: str
    """When it began, in UTC: `2026-11-30T22:45:00+00:00`; empty likewise."""
    seconds: float
    """Wall time of all commands of the sweep together, as far as they ended."""
    sessions: int
    """How many commands these were."""
    from_paper: tuple[str, ...]
    """Each thing that differs from the paper; empty if nothing does, or the study names no paper."""
    paper: bool
    """Whether the study names a paper."""
    settings: Mapping[str, Any]
    """All settings, resolved: see `resolved_settings`."""
    study_text: str
    """Content of the study file."""
    scale_text: str
    """Content of the scale file."""

    def how(self) -> str:
        """Return command, date and wall time, in a line."""
        if not self.command:
            return f"{self.identity.name}: nothing of it was run as a sweep yet"
        day = datetime.fromisoformat(self.date)
        took = f", {duration(self.seconds)}" if self.seconds else ""
        several = f" in {self.sessions} commands" if self.sessions > 1 and took else ""
        return f"made by `{self.command}`, {day:%Y-%m-%d %H:%M} UTC{took}{several}"

    def differs(self) -> str:
        """Return what is not as in the paper, in a line: what was set by hand, the scale, how much in all."""
        if self.paper and not self.from_paper:
            return "settings: those of the paper"
        said = [f"{path} = {value}" for path, value in self.identity.differences]
        said = [f"scale {self.identity.scale}", *said]
        if not self.paper:
            return f"settings: {', '.join(said)}"
        things = f"{len(self.from_paper)} thing{'' if len(self.from_paper) == 1 else 's'}"
        return f"settings: {', '.join(said)}; {things} not as in the paper"

    def setting_lines(self) -> list[str]:
        """Return `path = value` for each setting."""
        return lines(self.settings)

    def constant(self) -> dict[str, Any]:
        """Return for machines what is the same wherever and whenever the sweep is run."""
        return {
            "sweep": sweep_record(self.identity),
            "from_paper": list(self.from_paper),
            "settings": dict(self.settings),
            "study_text": self.study_text,
            "scale_text": self.scale_text,
        }

    def particular(self) -> dict[str, Any]:
        """Return for machines what is of this one time: command, date, wall time."""
        return {
            "command": self.command or None,
            "date": self.date or None,
            "seconds": self.seconds,
            "sessions": self.sessions,
        }


def made_of(plan: Plan, description: "Description | None" = None) -> Made:
    """Return what made the table of a plan.

    Args:
        description: of the stored sweep that the plan is of, or is a part of.
    """
    recipe = plan.recipe
    return Made(
        identity=plan.identity,
        command=description.command if description else "",
        date=description.date if description else "",
        seconds=description.seconds if description else 0.0,
        sessions=len(description.sessions) if description else 0,
        from_paper=plan.not_comparable if plan.paper else (),
        paper=plan.paper is not None,
        settings=plan.settings,
        study_text=recipe.study_text if recipe else "",
        scale_text=recipe.scale_text if recipe else "",
    )
