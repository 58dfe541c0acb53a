"""`hdsweep plan`: what would run, why, and what it would take."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.cluster.hardware import cpu_cores, gpus
from orchestrator.plan.comparable import OTHER_WEIGHTS
from orchestrator.plan.cost.forecast import CPU, SECONDS_PER_HOUR, Forecast, forecast, gpu_of
from orchestrator.plan.cost.simulate import Simulation, simulate
from orchestrator.plan.data_parts import data_warnings, parts_by_run, parts_line
from orchestrator.plan.identity import sweep_record
from orchestrator.plan.order import seeds_first
from orchestrator.plan.plan import Plan, PlannedRun
from orchestrator.plan.why import Reason, reasons
from orchestrator.store.home.home import Home
from orchestrator.wording import duration, in_short

MOST_REASONS = 3  # Of the runs of one row, that the short form lists.


@dataclass(frozen=True)
class Explained:
    """A plan, the reason of each of its runs, and what the missing ones take."""

    plan: Plan
    reasons: dict[str, Reason]
    forecast: Forecast
    slots: int
    """Runs at once that the forecast's wall time assumes."""
    simulation: Simulation | None = None
    """The sweep on as many GPUs as were asked about; None if none were."""


@dataclass(frozen=True)
class AskedGpus:
    """GPUs that a plan is to be simulated on, whether or not this machine has them."""

    count: int
    memory_gb: float
    """Of each, in GB (10^9 bytes)."""


def explain(plan: Plan, home: Home, asked: AskedGpus | None = None) -> Explained:
    """Return a plan with its reasons, held against what the home folder has stored.

    At paper scale, and for GPUs that were asked about, the cost is that of GPUs, whatever this
    machine is: the question is what the table would take.
    """
    finished, failures, past, measured = {}, {}, [], []
    if home.exists():
        from orchestrator.store.store import Store
        from orchestrator.verbs.run import measured as measure

        store = Store.read(home)
        if store is not None:
            finished = store.finished()
            failures = {key: str(failure) for key, failure in store.failures().items()}
            past = list(store.specs().values())
            measured = measure(store)
    on_gpu = asked is not None or plan.scale == "paper" or bool(gpus())
    costs = forecast(
        plan, device=gpu_of(measured) if on_gpu else CPU, measured=measured, finished=finished
    )
    return Explained(
        plan=plan,
        reasons=dict(reasons(plan, finished=finished, failures=failures, past=past)),
        forecast=costs,
        slots=max(1, len(gpus())) if on_gpu else cpu_cores(),
        simulation=simulated(costs, asked) if asked is not None else None,
    )


def simulated(costs: Forecast, asked: AskedGpus) -> Simulation:
    """Return what a sweep over the missing runs of a plan comes to if the forecast is right."""
    return simulate(
        [run for run in costs.plan.runs if run.key in costs.seconds],
        costs.seconds,
        gpus=asked.count,
        gpu_gb=asked.memory_gb,
        rank=seeds_first(costs.plan.runs),
    )


def plan_record(explained: Explained) -> dict[str, Any]:
    """Return a plan for machines."""
    plan, simulation = explained.plan, explained.simulation
    return {
        "sweep": sweep_record(plan.identity),
        "generated": plan.generated,
        "comparable": plan.comparable,
        "planned": len(plan.runs),
        "runs": list(_records(explained)),
        "device": explained.forecast.device.name,
        "simulation": None if simulation is None else _simulation_record(explained, simulation),
        "notes": [*plan.notes, *plan.tuned],
    }


def _records(explained: Explained) -> Iterator[dict[str, Any]]:
    """Yield one JSON-ready record per run."""
    parts = parts_by_run(explained.plan)
    for run in explained.plan.runs:
        seconds = explained.forecast.seconds.get(run.key)
        yield {
            "key": run.key,
            "label": run.label,
            "stage": run.spec.stage,
            "task": run.spec.task,
            "methods": list(run.methods),
            "source": run.source,
            "target": run.target,
            "seed": run.seed,
            "parts": parts[run.key].record() if run.key in parts else None,
            "needs": run.needs,
            "reason": str(explained.reasons[run.key]),
            "lacks_weights": None if run.backbone else run.needs_backbone,
            "forecast_seconds": None if seconds is None else round(seconds, 2),
        }


def _simulation_record(explained: Explained, simulation: Simulation) -> dict[str, Any]:
    """Return the JSON-ready record of a simulated sweep."""
    return {
        "planned": len(explained.forecast.seconds),
        "gpus": simulation.gpus,
        "gpu_gb": simulation.gpu_gb,
        "makespan_seconds": round(simulation.makespan, 2),
        "bound_seconds": round(simulation.bound, 2),
        "ratio_to_bound": round(simulation.ratio, 4),
        "utilisation": round(simulation.utilisation, 4),
        "critical_path": [run.label for run in simulation.critical],
        "critical_path_seconds": round(simulation.longest_path, 2),
        "ended_last": [run.label for run in simulation.ended_last],
        "gpu_hours": round(simulation.work / SECONDS_PER_HOUR, 2),
        "gpu_hours_held": round(_held_hours(simulation), 2),
    }


def render_plan(explained: Explained, *, every: bool) -> Group:
    """Return the plan for a terminal: one line per run, or one per row and stage."""
    table = _every_run(explained) if every else _by_row(explained)
    return Group(Text(_title(explained.plan), style="bold"), table, *_footer(explained))


def _every_run(explained: Explained) -> Table:
    table = Table("key", "run", "why", "forecast")
    for run in explained.plan.runs:
        seconds = explained.forecast.seconds.get(run.key)
        took = duration(seconds) if seconds is not None else ""
        table.add_row(run.key, run.label, str(explained.reasons[run.key]), took)
    return table


def _by_row(explained: Explained) -> Table:
    """Return pretrainings one by one, and fine-tunings by method."""
    table = Table("what", "runs", "why", "forecast")
    groups: dict[str, list[PlannedRun]] = {}
    for run in explained.plan.runs:
        groups.setdefault(run.label if run.pretraining else run.methods[0], []).append(run)
    for name, runs in groups.items():
        seconds = sum(explained.forecast.seconds.get(run.key, 0.0) for run in runs)
        why = _in_words(explained.reasons[run.key] for run in runs)
        table.add_row(name, str(len(runs)), why, duration(seconds) if seconds else "")
    return table


def _in_words(found: Iterable[Reason]) -> str:
    """Return the reasons of several runs, each once with how often it applies."""
    texts = Counter(
        "after its pretraining" if each.kind == "waits" else each.text for each in found
    )
    if len(texts) == 1:
        return next(iter(texts))
    return in_short([f"{n} {text}" for text, n in texts.most_common()], most=MOST_REASONS)


def _short(reason: Reason) -> str:
    """Return a reason without the name of the run it waits for, which differs by source."""
    return "new, after its pretraining" if reason.kind == "waits" else reason.text


def _footer(explained: Explained) -> Iterator[Text]:
    plan, costs = explained.plan, explained.forecast
    pretrainings = sum(run.pretraining for run in plan.runs)
    unit = f"{costs.device.name}-hours"
    yield Text(
        f"{pretrainings} pretrainings ({costs.hours('pretraining'):.3g} {unit} to do), "
        f"{len(plan.runs) - pretrainings} fine-tunings ({costs.hours('fine-tuning'):.3g} {unit})"
    )
    if explained.simulation is not None:
        yield from _simulation_lines(explained.simulation, costs.seconds)
    else:
        yield Text(
            f"on {explained.slots} at once: {duration(costs.wall_seconds(explained.slots))}; "
            f"no number of devices is faster than {duration(costs.longest_path)}"
        )
    learned = "measured runs of this home" if costs.learned else "the built-in cost model"
    yield Text(f"forecast from {learned}; none of it has been started", style="dim")
    if parts := parts_line(plan):
        yield Text(parts, style="dim")
    for warning in data_warnings(plan):
        yield Text(f"look at: {warning}", style="yellow")
    missing = [each.ref.name for each in plan.datasets if not each.prepared]
    if missing:
        yield Text(f"not prepared yet: {', '.join(missing)}", style="dim")
    for name, methods in plan.lacking_weights.items():
        yield Text(
            f"no ImageNet weights {name}, which {', '.join(methods)} start from: hdsweep weights "
            f"fetch {name}, or import {name} FILE",
            style="dim",
        )
    for method, sha256 in plan.other_weights.items():
        yield Text(f"{method} starts from {OTHER_WEIGHTS}: sha256 {sha256[:16]}", style="dim")
    for note in (*plan.notes, *plan.tuned):
        yield Text(note, style="dim")


def _simulation_lines(simulation: Simulation, seconds: Mapping[str, float]) -> Iterator[Text]:
    if not simulation.intervals:
        yield Text("nothing is left to simulate")
        return
    count = f"{simulation.gpus} GPU{'s' if simulation.gpus > 1 else ''}"
    limit = "the critical path" if simulation.bound == simulation.longest_path else "work / GPUs"
    yield Text(
        f"on {count} of {simulation.gpu_gb:g} GB, simulated: {duration(simulation.makespan)}, "
        f"{simulation.utilisation:.0%} of their time in use; {simulation.ratio:.2f} times "
        f"the bound of {duration(simulation.bound)} ({limit})"
    )
    path = ", then ".join(f"{r.label} ({duration(seconds[r.key])})" for r in simulation.critical)
    yield Text(f"critical path: {path}")
    yield Text(
        f"{_in_hours(simulation.work / SECONDS_PER_HOUR)} GPU-hours of work, "
        f"{_in_hours(_held_hours(simulation))} with the GPUs held to the end"
    )


def _in_hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _held_hours(simulation: Simulation) -> float:
    return simulation.makespan * simulation.gpus / SECONDS_PER_HOUR


def _title(plan: Plan) -> str:
    generated = ", GENERATED DATA" if plan.generated else ""
    return f"{plan.title}, scale {plan.scale}{plan.identity.varied}{generated}"
