"""`hdsweep run`, step by step: plan, data, store, sweep, table."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cluster.compilers import require_compilers
from orchestrator.cluster.hardware import Devices, local_devices
from orchestrator.errors import InputError
from orchestrator.plan.cost.forecast import CPU, Measured, forecast, gpu_of, peaks, resources
from orchestrator.plan.data_parts import data_warnings, require_parts
from orchestrator.plan.identity import sweep_record
from orchestrator.plan.plan import Plan, require_ready
from orchestrator.process.environment import told
from orchestrator.process.stopping import Say, status_of, stopped_by_signals
from orchestrator.store.failures import Failure
from orchestrator.store.home.home import Home
from orchestrator.sweep.budget import Budget
from orchestrator.sweep.events import OnEvent
from trainables.code import code_hash
from trainables.config import RunSpec
from trainables.data.datasets import all_datasets
from trainables.result import Result

if TYPE_CHECKING:
    from orchestrator.report.cells import Table
    from orchestrator.store.store import Store, StoredRun
    from orchestrator.store.sweeps.file import Description
    from orchestrator.sweep.options import Options
    from orchestrator.sweep.outcome import SweepResult

GONE = "deleted for good in the meantime, with its artifacts; the same command trains it again"


@dataclass(frozen=True)
class Outcome:
    """What a `run` came to."""

    result: "SweepResult"
    table: "Table"
    folder: Path
    """Where the files of the table lie."""
    swept: Plan
    """What the files are of: the whole, also if a part was run."""

    @property
    def page(self) -> Path:
        """The report, on top of the sweep's artifacts."""
        return self.folder.parent / "report.html"

    @property
    def exit_code(self) -> int:
        """0 done, 1 some runs failed or were left for want of budget, 130 and so on interrupted."""
        if self.result.interrupted:
            return status_of(self.result.stopped_by)
        result = self.result
        left = result.failed or result.blocked or result.halted or not result.within_budget
        return int(bool(left))

    def summary(self) -> dict[str, Any]:
        """Return the counts for machines."""
        result = self.result
        return {
            "sweep": sweep_record(self.swept.identity),
            "planned": result.planned,
            "reused": result.reused,
            "finished": result.finished,
            "failed": len(result.failed),
            "blocked": len(result.blocked),
            "interrupted": result.interrupted,
            "updates_redone": result.updates_redone,
            "avoided_nodes": result.avoided_nodes,
            "within_budget": result.within_budget,
            "seconds": round(result.seconds, 3),
            "table": str(self.folder),
        }


def ready_plan(make: Callable[[], Plan], home: Home, say: Say) -> Plan:
    """Return a plan whose data is there: generated sets are made, all are checked against it.

    Args:
        make: plans anew, so that the fingerprints of what was just made come in.

    Raises:
        InputError: if a dataset or a weight file is missing, or a dataset changed on disk.
    """
    code_hash()  # As it is now, which is what workers are held to.
    for line in told():
        say(line)
    plan = make()
    missing = [each for each in plan.datasets if each.ref.generated and not each.prepared]
    if missing:
        from trainables.data.prepare import prepare

        say(f"generating {', '.join(each.ref.name for each in missing)}")
        for each in missing:
            info, size = all_datasets()[each.ref.name], each.ref.image_size
            prepare(info, None, home.path, image_size=size, images=each.expected)
        plan = make()
    require_parts(plan)  # Before what is missing is had for it.
    require_ready(plan)
    for warning in data_warnings(plan):
        say(warning)
    _verify(plan, home)
    home.push()
    return plan


def _verify(plan: Plan, home: Home) -> None:
    """Raise an InputError if a prepared dataset is not what its description says any more."""
    from trainables.data.errors import DatasetError

    for each in plan.datasets:
        assert each.folder is not None, "`require_ready` lets only prepared data through"
        try:
            _verify_dataset(each.folder, home)
        except DatasetError as error:
            hint = f"prepare `{each.ref.name}` again"
            raise InputError(str(error), hint=hint) from error


def _verify_dataset(folder: Path, home: Home) -> None:
    """Raise a DatasetError if a dataset changed.

    Of what lies in an object store the size is compared; each machine that copies it reads all of it.
    """
    from trainables.data.errors import DatasetChangedError
    from trainables.data.prepared import DATA_FILE, read_prepared
    from trainables.data.store import verify

    file = folder / DATA_FILE
    if home.mirror is None or file.is_file():
        verify(folder)
        return
    prepared = read_prepared(folder)
    if prepared is None or home.size_of(file) != prepared.bytes:
        raise DatasetChangedError(f"{home.address}: {folder.name}/{DATA_FILE} is not as prepared")


def run_plan(
    plan: Plan,
    home: Home,
    *,
    options: "Options",
    display: Callable[[Plan, Mapping[str, float]], contextlib.AbstractContextManager[OnEvent]],
    say: Say,
    command: str | None = None,
    notify: Callable[
        [OnEvent], contextlib.AbstractContextManager[OnEvent]
    ] = contextlib.nullcontext,
) -> Outcome:
    """Run what is missing of a plan, and store and return its table.

    Args:
        display: opens the view of the sweep, given the plan and the forecast seconds by key.
        say: prints one line for people.
        command: that was typed, without secrets; it is stored.
        notify: opens what tells others, around the view.

    Raises:
        InputError: if another sweep uses the home, or this machine cannot compile what is to be.
    """
    from orchestrator.store.store import Store
    from orchestrator.sweep.start import run_sweep

    devices = options.devices or local_devices(options.workers)
    if options.address == "local":
        require_compilers((run.spec for run in plan.runs), gpu=devices.gpu_gb is not None)
    with Store.open(home, say) as store, stopped_by_signals(store.stop_flag(), say) as stop:
        if store.moved:
            say(store.moved)
        for key, what in store.reconciled.items():
            say(f"run {key} had been cut short: {what}")
        store.begin_sweep(plan, command)
        swept = store.swept
        known = measured(store)
        expected = forecast(
            plan,
            device=CPU if devices.gpu_gb is None else gpu_of(known),
            measured=known,
            finished=store.finished(),
        )
        devices = replace(devices, peaks=peaks(known))
        options = replace(options, devices=devices)
        with display(plan, expected.seconds) as view, notify(view) as on_event:
            result = run_sweep(
                plan,
                store,
                expected.remaining,
                options=options,
                on_event=on_event,
                budget=_budget(plan, expected.seconds, options, devices),
                stop=stop,
            )
        if result.interrupted:
            store.reconcile()  # What was stopped must not look as if it were running.
        for key in store.settle():
            if key in plan.by_key:
                result.failed[key] = Failure("error", GONE)
        finished = store.finished()
        complete = all(run.key in finished for run in swept.runs)
        store.note_end(complete=complete)
        table = table_of(swept, store)
        folder = write_table(store, table, swept)
        store.end_sweep(complete=complete)
        shown = table if swept is plan else table_of(plan, store)
    return Outcome(result, shown, folder, swept)


def _budget(
    plan: Plan, expected: Mapping[str, float], options: "Options", devices: Devices
) -> Budget | None:
    if options.most_hours is None:
        return None
    held = {
        run.key: resources(run.spec, gpu_gb=devices.gpu_gb, measured=devices.peaks)
        for run in plan.runs
    }
    share = {key: h.cpus if devices.gpu_gb is None else h.gpus for key, h in held.items()}
    return Budget(options.most_hours, share=share, expected=expected)


def measured(store: "Store") -> list[Measured]:
    """Return what finished runs took, to learn from."""
    finished = store.finished()
    return [
        Measured(
            spec=RunSpec.model_validate(spec),
            device=finished[key].tags.get("hdsweep.device", CPU.name),
            seconds=finished[key].seconds,
            gpu_gb=_gpu_peak(finished[key]),
        )
        for key, spec in store.specs().items()
    ]


def _gpu_peak(stored: "StoredRun") -> float | None:
    """Return the peak of GPU memory of a run; None on a CPU, or with less in memory than its spec says."""
    if stored.tags.get("hdsweep.device", "cpu") == "cpu":
        return None
    result = Result.read(stored.artifacts)
    return None if result.micro_batch else result.gpu_gb


def table_of(plan: Plan, store: "Store | None") -> "Table":
    """Return the table of a plan as far as its runs are stored."""
    from orchestrator.report.cells import make_table
    from orchestrator.report.images import read_images
    from orchestrator.report.made import made_of

    finished = store.finished() if store else {}
    failures = store.failures() if store else {}
    wanted = {key for key in plan.table.values() if key in finished}
    images = {key: read_images(finished[key].artifacts) for key in sorted(wanted)}
    return make_table(
        plan,
        {key: run.metrics for key, run in finished.items()},
        {key: str(failure) for key, failure in failures.items()},
        {key: counts for key, counts in images.items() if counts is not None},
        made_of(plan, description_of(plan, store)),
    )


def description_of(plan: Plan, store: "Store | None") -> "Description | None":
    """Return what was written down of the stored sweep that a plan is, or is a part of."""
    key = store.sweeps.of_plan(plan) if store else None
    return store.sweeps.description(key) if store and key else None


def write_table(store: "Store", table: "Table", plan: Plan) -> Path:
    """Store table and report as artifacts of the sweep; return the folder of its files."""
    from orchestrator.report import write_report
    from orchestrator.report.evidence import gather
    from orchestrator.report.writers.markdown import render
    from orchestrator.report.writers.records import to_records
    from orchestrator.store.sweeps.records import TABLE_FOLDER

    evidence = gather(plan, store)
    return store.write_table(
        lambda folder: write_report(table, folder, evidence, links=f"{TABLE_FOLDER}/"),
        to_records(table),
        render(table, short=True),
    )
