"""What stands behind a table: each finished run with its history, cost and origin, and the failures.

Gathered from the store and the artifacts of the runs; a report draws it and decides nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.plan.plan import Plan, PlannedRun
from orchestrator.store.failures import Group, grouped
from orchestrator.store.tags import ATTEMPT
from trainables.result import Result

if TYPE_CHECKING:
    from orchestrator.store.store import Store, StoredRun


@dataclass(frozen=True)
class Done:
    """A finished run of the plan."""

    run: PlannedRun
    artifacts: Path
    seconds: float
    updates: int
    attempts: int
    """How often it was begun or gone on with."""
    updates_redone: int
    """Lost with a worker or a driver and done again, as far as they had been told of."""
    joules: float | None
    """Energy of its GPU while it trained; None if no driver told."""
    environment: Mapping[str, str]
    """Versions and hardware."""
    code: Mapping[str, str]
    """hdsweep's version and, from a checkout, its commit and a hash of what was changed since."""

    @cached_property
    def history(self) -> Mapping[str, Sequence[tuple[int, float]]]:
        """(update, value) of each logged name, in order."""
        # Read only when asked for: a report of ten thousand runs draws some hundred.
        found: dict[str, list[tuple[int, float]]] = {}
        for point in Result.read(self.artifacts).history:
            found.setdefault(point.name, []).append((point.step, float(point.value)))
        return found


@dataclass(frozen=True)
class Cost:
    """What a row of the table took, over its finished runs."""

    runs: int = 0
    seconds: float = 0.0
    updates: int = 0
    attempts: int = 0
    updates_redone: int = 0
    joules: float | None = None

    def plus(self, done: Done) -> "Cost":
        """Return the cost with a run added; energy only as long as all tell theirs."""
        told = done.joules is not None and (self.joules is not None or not self.runs)
        return Cost(
            runs=self.runs + 1,
            seconds=self.seconds + done.seconds,
            updates=self.updates + done.updates,
            attempts=self.attempts + done.attempts,
            updates_redone=self.updates_redone + done.updates_redone,
            joules=(self.joules or 0.0) + (done.joules or 0.0) if told else None,
        )


@dataclass(frozen=True)
class Evidence:
    """All of it."""

    plan: Plan
    done: Mapping[str, Done]
    """By key."""
    groups: tuple[Group, ...] = ()
    """Runs that failed, those that failed in one and the same way together."""
    split: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    """The ids of the images in each part of a target."""
    diffs: Mapping[str, str] = field(default_factory=dict)
    """Changes since the commit that runs were made with, by their hash."""
    pictures: bool = True
    """Whether test images may be shown; the terms of some datasets forbid to pass them on."""

    def cost(self, method: str, *, pretraining: bool) -> Cost:
        """Return what the pretrainings or the fine-tunings of a row took.

        A pretraining that several rows share counts for each of them.
        """
        total = Cost()
        for done in self.done.values():
            if method in done.run.methods and done.run.pretraining == pretraining:
                total = total.plus(done)
        return total

    def whole_cost(self) -> Cost:
        """Return what everything took, shared pretrainings once."""
        total = Cost()
        for done in self.done.values():
            total = total.plus(done)
        return total

    @property
    def energy_told(self) -> bool:
        """Whether the driver of any run's GPU told what it used."""
        return any(done.joules is not None for done in self.done.values())

    @property
    def on_gpu(self) -> bool:
        """Whether any run was trained on a GPU."""
        return any(done.environment.get("device", "cpu") != "cpu" for done in self.done.values())

    def origins(self) -> dict[str, list[str]]:
        """Return the distinct values of what made the runs: code, versions, hardware."""
        found: dict[str, dict[str, None]] = {}
        for done in self.done.values():
            for name, value in {**done.code, **done.environment}.items():
                found.setdefault(name, {})[value] = None
        return {name: list(values) for name, values in found.items()}


def gather(plan: Plan, store: "Store | None", *, pictures: bool = True) -> Evidence:
    """Return the evidence of a plan as far as its runs are stored."""
    if store is None:
        return Evidence(plan, {}, pictures=pictures)
    finished = store.finished()
    done = {run.key: _done(run, finished[run.key]) for run in plan.runs if run.key in finished}
    return Evidence(
        plan=plan,
        done=done,
        groups=tuple(grouped(store.failures(), (run.key for run in plan.runs))),
        split=_split(done.values()),
        diffs=store.diffs(),
        pictures=pictures,
    )


def _done(run: PlannedRun, stored: "StoredRun") -> Done:
    from orchestrator.store.store import REDONE

    result = Result.read(stored.artifacts)
    code = ("hdsweep", "commit", "changes")
    return Done(
        run=run,
        artifacts=stored.artifacts,
        seconds=result.seconds,
        updates=result.updates,
        attempts=int(stored.tags[ATTEMPT]),
        updates_redone=int(stored.tags.get(REDONE, 0)),
        joules=result.joules,
        environment={k: str(v) for k, v in result.environment.items()},
        code={k: stored.tags[f"hdsweep.{k}"] for k in code if f"hdsweep.{k}" in stored.tags},
    )


def _split(every: Iterable[Done]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the ids in each part of each target; all methods and seeds share them."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for done in every:
        target, path = done.run.target, done.artifacts / "split.json"
        if target is not None and target not in found and path.is_file():
            parts = json.loads(path.read_text(encoding="utf-8"))
            found[target] = {name: tuple(ids) for name, ids in parts.items()}
    return found
