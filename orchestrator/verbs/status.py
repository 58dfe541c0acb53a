"""`hdsweep status`: how far a study is, who works on it, and what went wrong."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from orchestrator.plan.identity import sweep_record
from orchestrator.plan.plan import Plan
from orchestrator.store.failures import Failure, Group, grouped
from orchestrator.store.home.home import Home
from orchestrator.verbs.plan import explain
from orchestrator.wording import duration, in_short, one_line

STATES = ("finished", "running", "failed", "waiting")
STAGES = ("pretraining", "fine-tuning")
MOST_NAMED = 4  # Failed runs of one cause that are listed by name.
LOG_LINES = 12


@dataclass(frozen=True)
class Status:
    """The state of each run of a plan."""

    plan: Plan
    states: dict[str, str]
    """One of `STATES`, by key."""
    attempts: dict[str, int]
    """Of the runs that run at present, by key."""
    failed: dict[str, Failure]
    """Why a run failed, by key."""
    logs: dict[str, Path]
    """Of the last attempt at runs that failed, by key."""
    driver: dict[str, str] | None
    """Who drives the home at present."""
    seconds_left: float | None
    """Forecast for what is not finished, on this machine; None if nobody works on it."""
    driver_is_told: bool = True
    """Whether it may be seen at all who drives the home."""

    def counts(self, stage: str | None = None) -> dict[str, int]:
        """Return how many runs, of one stage or of all, are in each state."""
        found = Counter(
            self.states[run.key] for run in self.plan.runs if stage in (None, run.spec.stage)
        )
        return {state: found[state] for state in STATES}

    def groups(self) -> list[Group]:
        """Return the failed runs, those that failed in one and the same way together."""
        return grouped(self.failed, (run.key for run in self.plan.runs))

    def labels(self, group: Group) -> list[str]:
        """Return what the runs of a group are called."""
        return [self.plan.by_key[key].label for key in group.keys]

    def running(self) -> dict[str, int]:
        """Return the attempt of each run that runs, by its label."""
        return {self.plan.by_key[key].label: number for key, number in self.attempts.items()}

    def to_record(self) -> dict[str, Any]:
        """Return it for machines."""
        left = self.seconds_left
        return {
            "sweep": sweep_record(self.plan.identity),
            "generated": self.plan.generated,
            "planned": len(self.plan.runs),
            **self.counts(),
            "stages": {stage: self.counts(stage) for stage in STAGES},
            "running_now": [{"label": k, "attempt": n} for k, n in self.running().items()],
            "failures": [
                {
                    "cause": str(group.failure),
                    "kind": group.failure.kind,
                    "site": group.failure.site,
                    "fingerprint": group.failure.fingerprint,
                    "labels": self.labels(group),
                }
                for group in self.groups()
            ],
            "driver": self.driver,
            "seconds_left": None if left is None else round(left, 1),
        }


def status_of(plan: Plan, home: Home) -> Status:
    """Return the state of each run, as the store has it."""
    driver = home.driver
    states = dict.fromkeys((run.key for run in plan.runs), "waiting")
    failed: dict[str, Failure] = {}
    logs: dict[str, Path] = {}
    attempts: dict[str, int] = {}
    if home.exists():
        from orchestrator.store.store import Store

        store = Store.read(home)
        if store is not None:
            store.sweeps.require(plan, where=f"`{home.path}`")
            finished, running, failures = store.finished(), store.running(), store.failures()
            for key in states:
                if key in finished:
                    states[key] = "finished"
                elif key in failures:
                    states[key], failed[key] = "failed", failures[key]
                    log = store.log_of(key)
                    logs |= {key: log} if log else {}
                elif key in running and (driver is not None or not home.driver_is_told):
                    # Without a driver nobody runs it: it was cut short and waits again.
                    states[key], attempts[key] = "running", running[key]
    left = _seconds_left(plan, home, driver)
    return Status(plan, states, attempts, failed, logs, driver, left, home.driver_is_told)


def _seconds_left(plan: Plan, home: Home, driver: dict[str, str] | None) -> float | None:
    if driver is None:
        return None
    explained = explain(plan, home)
    return explained.forecast.wall_seconds(explained.slots)


def render_status(status: Status) -> Lines:
    """Return it for a terminal: counts by stage, what runs, causes of failures together."""
    plan = status.plan
    generated = ", GENERATED DATA" if plan.generated else ""
    title = f"{plan.title}, scale {plan.scale}{plan.identity.varied}{generated}"
    table = Table("", *STATES)
    for stage in STAGES:
        table.add_row(f"{stage}s", *map(str, status.counts(stage).values()))
    lines = [Text(_driver(status))]
    for label, attempt in status.running().items():
        again = f", attempt {attempt}" if attempt > 1 else ""
        lines.append(Text(f"running: {label}{again}"))
    for group in status.groups():
        named = in_short(status.labels(group), most=MOST_NAMED)
        lines.append(Text(f"failed: {named}: {one_line(group.title)}", style="red"))
    return Lines(Text(title, style="bold"), table, *lines)


def render_failed(status: Status) -> Lines:
    """Return the failures for a terminal: each way of failing with its runs and the newest log."""
    lines: list[Text] = []
    for group in status.groups():
        runs = "1 run" if len(group.keys) == 1 else f"{len(group.keys)} runs, the same failure"
        lines.append(Text(f"{runs}: {one_line(group.title)}", style="bold red"))
        lines += [Text(f"  {label}") for label in status.labels(group)]
        log = status.logs.get(group.keys[0])
        if log is not None:
            lines.append(Text(f"  log of the first: {log}", style="dim"))
            lines += [Text(f"    {one_line(line)}", style="dim") for line in _tail(log)]
    return Lines(*(lines or [Text("no run has failed")]))


def _tail(log: Path) -> list[str]:
    """Return the last lines of a log, where the traceback ends."""
    lines = log.read_text(errors="replace", encoding="utf-8").rstrip().splitlines()
    return lines[-LOG_LINES:]


def _driver(status: Status) -> str:
    driver, left = status.driver, status.seconds_left
    if driver is None and not status.driver_is_told:
        return (
            "whether a sweep is running in this home is not known: its file `lock` may not be read"
        )
    if driver is None:
        return "no sweep is running in this home"
    who = f"process {driver.get('pid', '?')} on {driver.get('host', '?')}"
    rest = f"; about {duration(left)} left by the forecast" if left is not None else ""
    return f"driven by {who} since {driver.get('since', '?')}{rest}"
