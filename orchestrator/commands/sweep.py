"""`hdsweep run`, `plan`, `status`: a study from what would run to what has run."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.commands.common import (
    DEFAULT_HOME,
    HOW,
    MOST_GPU_GB,
    AddressOption,
    AdoptOption,
    FromTuneOption,
    GpuGbOption,
    HomeOption,
    JsonOption,
    MethodsOption,
    NotifyOption,
    ProgressOption,
    RandomBackboneOption,
    RetriesOption,
    ScaleOption,
    SeedsOption,
    SetOption,
    StallOption,
    StudyArgument,
    TargetsOption,
    TrackingOption,
    WorkersOption,
    nothing_collected,
    print_json,
    print_rich,
    print_table,
    say,
)
from orchestrator.errors import InputError, require_one_of
from orchestrator.plan.data_parts import require_parts
from orchestrator.plan.plan import Plan
from orchestrator.process.invocation import typed
from orchestrator.store.failures import grouped
from orchestrator.store.home.home import Home
from orchestrator.verbs.asked import asked_plan, require_home
from orchestrator.wording import in_short, one_line

if TYPE_CHECKING:
    from orchestrator.verbs.run import Outcome
from trainables.bounds import MOST_SPENT

INTERRUPTED = "interrupted; the same command goes on where it stopped"
ORDERS = ("seeds-first", "longest-first")
MOST_GPUS = 100_000
PICTURES = (".svg", ".png")
MOST_NAMED = 4  # Runs that a summary lists by name.


def run(
    study: StudyArgument,
    scale: ScaleOption = None,
    methods: MethodsOption = None,
    targets: TargetsOption = None,
    seeds: SeedsOption = None,
    overrides: SetOption = None,
    random_backbone: RandomBackboneOption = False,
    from_tune: FromTuneOption = None,
    retries: RetriesOption = 2,
    workers: WorkersOption = None,
    gpu_gb: GpuGbOption = None,
    max_gpu_hours: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=MOST_SPENT,
            help="Start nothing that might exceed it; CPU-hours without GPUs.",
            rich_help_panel=HOW,
        ),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            min=0, max=MOST_SPENT, help="The same in money; needs --price.", rich_help_panel=HOW
        ),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(min=0, max=MOST_SPENT, help="Of one GPU-hour.", rich_help_panel=HOW),
    ] = None,
    order: Annotated[
        str,
        typer.Option(
            help="seeds-first: every cell its first seed before its second; or longest-first.",
            rich_help_panel=HOW,
        ),
    ] = "seeds-first",
    keep_weights: Annotated[
        bool,
        typer.Option(
            "--keep-weights", help="Store the weights of fine-tunings too.", rich_help_panel=HOW
        ),
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    adopt: AdoptOption = False,
    address: AddressOption = "local",
    tracking_uri: TrackingOption = None,
    progress: ProgressOption = "auto",
    notify: NotifyOption = None,
    stall_minutes: StallOption = 30,
    as_json: JsonOption = False,
) -> None:
    """Run what is missing of STUDY, and print its table.

    Exit status: 0 done, 1 some runs failed and the rest is stored, 2 wrong input, 130 interrupted
    (143 by SIGTERM, 129 by a closed terminal):
    the same command goes on where it stopped.
    """
    from orchestrator.store.home.fresh_home import no_trace_if_refused
    from orchestrator.store.tracking.server import choose
    from orchestrator.sweep.watch.display import KINDS, open_display
    from orchestrator.sweep.watch.notify import notifying, receiver, watched_sweep
    from orchestrator.sweep.watch.progress import SweepView
    from orchestrator.verbs.run import ready_plan, run_plan

    require_one_of("--progress", progress, KINDS)
    require_one_of("--order", order, ORDERS)
    hours = _budget(max_gpu_hours, max_cost, price)
    receivers = [receiver(each) for each in notify or ()]

    def make(known: Path) -> Plan:
        return asked_plan(
            study,
            known,
            scale=scale,
            methods=methods,
            targets=targets,
            seeds=seeds,
            overrides=overrides or (),
            allow_random_backbone=random_backbone,
            from_tune=from_tune,
        )

    make(home.expanduser().absolute())  # Wrong input leaves no trace, not even a home folder.
    from orchestrator.cluster.session.session import devices
    from orchestrator.sweep.options import Options

    with no_trace_if_refused(home, adopt=adopt) as opened:
        found = devices(address, workers=workers, gpu_gb=gpu_gb)
        choose(opened, tracking_uri)
        plan = ready_plan(lambda: make(opened.path), opened, say)
    options = Options(
        address=address,
        workers=workers,
        devices=found,
        most_hours=hours,
        retries=retries,
        order="seeds-first" if order == "seeds-first" else "longest-first",
        keep_weights=keep_weights,
    )
    try:
        outcome = run_plan(
            plan,
            opened,
            options=options,
            display=lambda plan, seconds: open_display(
                SweepView(plan, seconds, gpu_gb=found.gpu_gb), progress
            ),
            say=say,
            command=typed(),
            notify=lambda on_event: notifying(
                receivers, watched_sweep(plan), on_event, say, stall_s=stall_minutes * 60
            ),
        )
    except KeyboardInterrupt:
        say(INTERRUPTED)
        raise typer.Exit(130) from None
    if as_json:
        print_json("run", outcome.summary())
    else:
        print_table(outcome.table)
        if outcome.swept.identity != plan.identity:
            say(
                f"the table is a part of `{outcome.swept.identity.name}`, which was brought up to date"
            )
        _tell_findings(outcome, opened)
    _tell_failures(plan, outcome.result)
    raise typer.Exit(outcome.exit_code)


def plan(
    study: StudyArgument,
    scale: ScaleOption = None,
    methods: MethodsOption = None,
    targets: TargetsOption = None,
    seeds: SeedsOption = None,
    overrides: SetOption = None,
    random_backbone: RandomBackboneOption = False,
    from_tune: FromTuneOption = None,
    every: Annotated[bool, typer.Option("--all", help="One line per run.")] = False,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_GPUS, help="Simulate the sweep on that many GPUs."),
    ] = None,
    gpu_gb: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_GPU_GB, help="Memory of each in GB; 80 by default."),
    ] = None,
    gantt: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw what runs where and when: .svg or .png."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what STUDY would run, why, and what it would cost; start nothing.

    Needs no data, no GPU and no home folder. With --gpus, adds the time that a simulated sweep
    takes, beside the least that any order could take.
    """
    from orchestrator.plan.cost.simulate import GPU_GB
    from orchestrator.verbs.plan import (
        AskedGpus,
        explain,
        plan_record,
        render_plan,
    )

    if gpus is None and (gpu_gb is not None or gantt is not None):
        flag = "--gantt" if gpu_gb is None else "--gpu-gb"
        raise InputError(f"{flag} needs --gpus", hint="such as `--gpus 8`")
    asked = None if gpus is None else AskedGpus(gpus, GPU_GB if gpu_gb is None else gpu_gb)
    if gantt is not None:
        _require_picture("--gantt", gantt)
    planned = asked_plan(
        study,
        home.expanduser().absolute(),
        scale=scale,
        methods=methods,
        targets=targets,
        seeds=seeds,
        overrides=overrides or (),
        allow_random_backbone=random_backbone,
        from_tune=from_tune,
    )
    require_parts(planned)
    explained = explain(planned, Home(home.expanduser().absolute()), asked)
    simulation = explained.simulation
    if as_json:
        print_json("plan", plan_record(explained))
    else:
        print_rich(render_plan(explained, every=every))
    if gantt is not None and simulation is not None:
        from orchestrator.report.gantt import write_gantt

        write_gantt(simulation, gantt)
        say(str(gantt))


@nothing_collected()
def status(
    study: StudyArgument,
    scale: ScaleOption = None,
    methods: MethodsOption = None,
    targets: TargetsOption = None,
    seeds: SeedsOption = None,
    overrides: SetOption = None,
    random_backbone: RandomBackboneOption = False,
    from_tune: FromTuneOption = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Each way of failing, its runs and its log.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what of STUDY is finished, running, failed and still to do."""
    from orchestrator.verbs.status import render_failed, render_status, status_of

    opened = Home(home.expanduser().absolute())
    planned = asked_plan(
        study,
        opened.path,
        scale=scale,
        methods=methods,
        targets=targets,
        seeds=seeds,
        overrides=overrides or (),
        allow_random_backbone=random_backbone,
        from_tune=from_tune,
    )
    require_home(opened)
    found = status_of(planned, opened)
    if as_json:
        print_json("status", found.to_record())
    else:
        print_rich(render_failed(found) if failed else render_status(found))


def _require_picture(flag: str, file: Path) -> None:
    """Raise an InputError if a picture cannot be written there; nothing has been computed yet."""
    if file.suffix not in PICTURES:
        raise InputError(f"{flag} {file}: must end in {' or '.join(PICTURES)}")
    if not file.parent.is_dir():
        raise InputError(f"{flag} {file}: there is no folder {file.parent}")
    if file.is_dir():
        raise InputError(f"{flag} {file}: is a folder")


def _budget(hours: float | None, cost: float | None, price: float | None) -> float | None:
    """Return the GPU-hours that may be spent: the lesser of two limits; None without any.

    Raises:
        InputError: if a cost is given and no price of a GPU-hour, or the other way round.
    """
    if (cost is None) != (price is None):
        raise InputError("--max-cost and --price go together: the price is that of one GPU-hour")
    limits = [] if hours is None else [hours]
    if cost is not None and price is not None:
        if price == 0:
            raise InputError("--price 0: must be more than 0")
        limits.append(cost / price)
    return min(limits, default=None)


def _tell_findings(outcome: "Outcome", home: Home) -> None:
    """Say what came out, where the report is, and how to look into what is behind it."""
    from orchestrator.report.findings import in_a_sentence

    if sentence := in_a_sentence(outcome.table):
        say(sentence)
    say(f"report: {outcome.page.as_uri()}")
    say(f"files of the table: {outcome.folder}")
    say(f"look into the runs: hdsweep ui --open --home {shlex.quote(home.address)}")


def _tell_failures(plan: Plan, result: Any) -> None:
    """Name what failed, runs of the same cause together, and what could not start for it."""
    for group in grouped(result.failed, (run.key for run in plan.runs)):
        labels = [plan.by_key[key].label for key in group.keys]
        say(f"failed: {in_short(labels, most=MOST_NAMED)}: {one_line(group.title)}")
    waiting: dict[str, list[str]] = {}
    for key, needed in result.blocked.items():
        waiting.setdefault(plan.by_key[needed].label, []).append(plan.by_key[key].label)
    for needed, labels in waiting.items():
        say(f"blocked by `{needed}`: {in_short(labels, most=MOST_NAMED)}")
    if not result.within_budget:
        left = result.planned - result.reused - result.finished
        say(
            f"the budget may not suffice for more: {left} runs left; the same command with more goes on"
        )
    if result.halted:
        say(result.halted)
    if result.interrupted:
        say(INTERRUPTED)
