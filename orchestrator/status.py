"""`hdsweep status`: how far a study is, who works on it, and what went wrong."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.home import Home, holder
from orchestrator.plan import Plan
from orchestrator.planning import explain
from orchestrator.wording import duration, in_short, one_line

STATES = ("finished", "running", "failed", "waiting")
STAGES = ("pretraining", "fine-tuning")
MOST_NAMED = 4  # Failed runs of one cause that are listed by name.


@dataclass(frozen=True)
class Status:
    """The state of each run of a plan."""

    plan: Plan
    states: dict[str, str]
    """One of `STATES`, by key."""
    attempts: dict[str, int]
    """Of the runs that run at present, by key."""
    causes: dict[str, str]
    """Why a run failed, by key."""
    driver: dict[str, str] | None
    """Who drives the home at present."""
    seconds_left: float | None
    """Forecast for what is not finished, on this machine; None if nobody works on it."""

    def counts(self, stage: str | None = None) -> dict[str, int]:
        """Return how many runs, of one stage or of all, are in each state."""
        found = Counter(
            self.states[run.key] for run in self.plan.runs if stage in (None, run.spec.stage)
        )
        return {state: found[state] for state in STATES}

    def failures(self) -> dict[str, list[str]]:
        """Return the labels of the failed runs by their cause."""
        grouped: dict[str, list[str]] = {}
        for key, cause in self.causes.items():
            grouped.setdefault(cause, []).append(self.plan.by_key[key].label)
        return grouped

    def running(self) -> dict[str, int]:
        """Return the attempt of each run that runs, by its label."""
        return {self.plan.by_key[key].label: number for key, number in self.attempts.items()}

    def to_record(self) -> dict[str, Any]:
        """Return it for machines."""
        left = self.seconds_left
        return {
            "study": self.plan.study,
            "scale": self.plan.scale,
            "generated": self.plan.generated,
            "planned": len(self.plan.runs),
            **self.counts(),
            "stages": {stage: self.counts(stage) for stage in STAGES},
            "running_now": [{"label": k, "attempt": n} for k, n in self.running().items()],
            "failures": [{"cause": c, "labels": each} for c, each in self.failures().items()],
            "driver": self.driver,
            "seconds_left": None if left is None else round(left, 1),
        }


def status_of(plan: Plan, home: Home) -> Status:
    """Return the state of each run, as the store has it."""
    driver = holder(home)
    states = dict.fromkeys((run.key for run in plan.runs), "waiting")
    causes: dict[str, str] = {}
    attempts: dict[str, int] = {}
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
                    states[key], attempts[key] = "running", running[key]
    return Status(plan, states, attempts, causes, driver, _seconds_left(plan, home, driver))


def _seconds_left(plan: Plan, home: Home, driver: dict[str, str] | None) -> float | None:
    if driver is None:
        return None
    explained = explain(plan, home)
    return explained.forecast.wall_seconds(explained.slots)


def render_status(status: Status) -> Group:
    """Return it for a terminal: counts by stage, what runs, causes of failures together."""
    plan = status.plan
    generated = ", GENERATED DATA" if plan.generated else ""
    table = Table("", *STATES, title=f"{plan.title}, scale {plan.scale}{generated}")
    for stage in STAGES:
        table.add_row(f"{stage}s", *map(str, status.counts(stage).values()))
    lines = [Text(_driver(status))]
    for label, attempt in status.running().items():
        again = f", attempt {attempt}" if attempt > 1 else ""
        lines.append(Text(f"running: {label}{again}"))
    for cause, labels in status.failures().items():
        named = in_short(labels, most=MOST_NAMED)
        lines.append(Text(f"failed: {named}: {one_line(cause)}", style="red"))
    return Group(table, *lines)


def _driver(status: Status) -> str:
    driver, left = status.driver, status.seconds_left
    if driver is None:
        return "no sweep is running in this home"
    who = f"process {driver.get('pid', '?')} on {driver.get('host', '?')}"
    rest = f"; about {duration(left)} left by the forecast" if left is not None else ""
    return f"driven by {who} since {driver.get('since', '?')}{rest}"
