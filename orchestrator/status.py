"""`hdsweep status`: how far a study is, who works on it, and what went wrong."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.home import Home, holder
from orchestrator.plan import Plan

STATES = ("finished", "running", "failed", "waiting")


@dataclass(frozen=True)
class Status:
    """The state of each run of a plan."""

    plan: Plan
    states: dict[str, str]
    """One of `STATES`, by key."""
    causes: dict[str, str]
    """Why a run failed, by key."""
    driver: dict[str, str] | None
    """Who drives the home at present."""

    def to_record(self) -> dict[str, Any]:
        """Return it for machines."""
        counts = Counter(self.states.values())
        return {
            "study": self.plan.study,
            "scale": self.plan.scale,
            "planned": len(self.plan.runs),
            **{state: counts[state] for state in STATES},
            "failures": {self.plan.by_key[key].label: why for key, why in self.causes.items()},
            "driver": self.driver,
        }


def status_of(plan: Plan, home: Home) -> Status:
    """Return the state of each run, as the store has it."""
    driver = holder(home)
    states = dict.fromkeys((run.key for run in plan.runs), "waiting")
    causes: dict[str, str] = {}
    if home.exists():
        from orchestrator.store import Store

        store = Store.read(home)
        if store is not None:
            finished, running, failures = store.finished(), store.running(), store.failures()
            for key in states:
                if key in finished:
                    states[key] = "finished"
                elif key in failures:
                    states[key], causes[key] = "failed", str(failures[key])
                elif key in running and driver is not None:
                    # Without a driver nobody runs it: it was cut short and waits again.
                    states[key] = "running"
    return Status(plan, states, causes, driver)


def render_status(status: Status) -> Group:
    """Return it for a terminal: counts by stage, what runs, causes of failures together."""
    plan = status.plan
    table = Table("", *STATES, title=f"{plan.title}, scale {plan.scale}")
    for name, pretraining in (("pretrainings", True), ("fine-tunings", False)):
        counts = Counter(
            status.states[run.key] for run in plan.runs if run.pretraining == pretraining
        )
        table.add_row(name, *(str(counts[state]) for state in STATES))
    lines = [Text(_driver(status.driver))]
    lines += [
        Text(f"running: {plan.by_key[key].label}")
        for key, state in status.states.items()
        if state == "running"
    ]
    grouped: dict[str, list[str]] = {}
    for key, cause in status.causes.items():
        grouped.setdefault(cause, []).append(plan.by_key[key].label)
    lines += [Text(f"failed: {', '.join(runs)}: {why}") for why, runs in grouped.items()]
    return Group(table, *lines)


def _driver(driver: dict[str, str] | None) -> str:
    if driver is None:
        return "no sweep is running in this home"
    return f"driven by process {driver.get('pid')} on {driver.get('host')} since {driver.get('since')}"
