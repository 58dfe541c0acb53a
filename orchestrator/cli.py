"""The `hdsweep` command: parse, call, print.

Standard output carries data only, so that it can be piped; talk goes to standard error. Nothing
heavy is imported before it is needed: `--help` and `plan` know no torch, Ray or MLflow.
"""

import contextlib
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.errors import HdsweepError, InputError
from orchestrator.home import Home, open_home
from orchestrator.plan import Plan, load_plan
from orchestrator.wording import in_short, one_line

app = typer.Typer(
    name="hdsweep",
    help="Sweeps of hybrid diffusion pretraining and label-efficient fine-tuning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Prepare datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

DEFAULT_HOME = Path("~/.hdsweep")
INTERRUPTED = "interrupted; the same command goes on where it stopped"
MOST_NAMED = 4  # Runs that a summary lists by name.

StudyArgument = Annotated[str, typer.Argument(help="A study by name (table2), or its .toml file.")]
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="HDSWEEP_HOME", help="Where everything is kept.")
]
ScaleOption = Annotated[
    str | None,
    typer.Option("--scale", help="paper, demo, smoke or a .toml file; the study's by default."),
]
MethodsOption = Annotated[
    str | None, typer.Option("--methods", help="Rows: names, baselines, hybrid, all.")
]
TargetsOption = Annotated[str | None, typer.Option("--targets", help="Target datasets.")]
SeedsOption = Annotated[str | None, typer.Option("--seeds", help="Such as 0,1.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Such as pretraining.mask_weight=1e-3."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def main() -> None:
    """Run the command and leave with its exit status; an error is one clear line."""
    try:
        app(standalone_mode=True)
    except HdsweepError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read standard output has gone; nothing is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def say(text: str) -> None:
    """Tell people something; a closed terminal is no reason to stop."""
    with contextlib.suppress(OSError):
        typer.echo(text, err=True)


def print_json(value: Any) -> None:
    """Print one line of JSON."""
    typer.echo(json.dumps(value, allow_nan=False))


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show:
        typer.echo(version("hdsweep"))
        raise typer.Exit


@app.command()
def run(
    study: StudyArgument,
    home: HomeOption = DEFAULT_HOME,
    scale: ScaleOption = None,
    methods: MethodsOption = None,
    targets: TargetsOption = None,
    seeds: SeedsOption = None,
    overrides: SetOption = None,
    retries: Annotated[int, typer.Option(min=0, help="After an error or a lost worker.")] = 2,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at once on this machine; one per core.")
    ] = None,
    address: Annotated[str, typer.Option(help="Ray cluster to join; local starts one.")] = "local",
    keep_weights: Annotated[
        bool, typer.Option("--keep-weights", help="Store the weights of fine-tunings too.")
    ] = False,
    progress: Annotated[str, typer.Option(help="auto, live, plain or none.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Run what is missing of STUDY, and print its table.

    Exit status: 0 done, 1 some runs failed and the rest is stored, 2 wrong input, 130 interrupted:
    the same command goes on where it stopped.
    """
    from orchestrator.display import KINDS, open_display
    from orchestrator.hardware import gpus
    from orchestrator.progress import SweepView
    from orchestrator.running import ready_plan, run_plan

    if progress not in KINDS:
        raise InputError(f"--progress {progress}: must be one of {', '.join(KINDS)}")

    def make(known: Path | None = None) -> Plan:
        return load_plan(
            study,
            scale=scale,
            home=known,
            methods=methods,
            targets=targets,
            seeds=seeds,
            overrides=overrides or (),
        )

    make()  # Wrong input must leave no trace, not even a home folder.
    opened = open_home(home)
    plan = ready_plan(lambda: make(opened.path), opened, say)
    from orchestrator.sweep import Options

    options = Options(address=address, workers=workers, retries=retries, keep_weights=keep_weights)
    memory = [gpu.memory_gb for gpu in gpus()]
    try:
        outcome = run_plan(
            plan,
            opened,
            options=options,
            display=lambda plan, seconds: open_display(
                SweepView(plan, seconds, gpu_gb=min(memory, default=None)), progress
            ),
            say=say,
        )
    except KeyboardInterrupt:
        say(INTERRUPTED)
        raise typer.Exit(130) from None
    if as_json:
        print_json(outcome.summary())
    else:
        _print_table(outcome.table)
        say(f"files of the table: {outcome.folder}")
    _tell_failures(plan, outcome.result)
    raise typer.Exit(outcome.exit_code)


@app.command()
def plan(
    study: StudyArgument,
    home: HomeOption = DEFAULT_HOME,
    scale: ScaleOption = None,
    methods: MethodsOption = None,
    targets: TargetsOption = None,
    seeds: SeedsOption = None,
    overrides: SetOption = None,
    every: Annotated[bool, typer.Option("--all", help="One line per run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what STUDY would run, why, and what it would cost; start nothing.

    Needs no data, no GPU and no home folder.
    """
    from orchestrator.planning import explain, render_plan, to_records

    planned = load_plan(
        study,
        scale=scale,
        home=home.expanduser().absolute(),
        methods=methods,
        targets=targets,
        seeds=seeds,
        overrides=overrides or (),
    )
    explained = explain(planned, Home(home.expanduser().absolute()))
    if as_json:
        for record in to_records(explained):
            print_json(record)
    else:
        _print(render_plan(explained, every=every))


@app.command()
def status(
    study: StudyArgument,
    home: HomeOption = DEFAULT_HOME,
    scale: ScaleOption = None,
    methods: MethodsOption = None,
    targets: TargetsOption = None,
    seeds: SeedsOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what of STUDY is finished, running, failed and still to do."""
    from orchestrator.status import render_status, status_of

    opened = Home(home.expanduser().absolute())
    planned = load_plan(
        study,
        scale=scale,
        home=opened.path,
        methods=methods,
        targets=targets,
        seeds=seeds,
        overrides=overrides or (),
    )
    found = status_of(planned, opened)
    if as_json:
        print_json(found.to_record())
    else:
        _print(render_status(found))


@app.command()
def report(
    study: StudyArgument,
    home: HomeOption = DEFAULT_HOME,
    scale: ScaleOption = None,
    methods: MethodsOption = None,
    targets: TargetsOption = None,
    seeds: SeedsOption = None,
    overrides: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for table.md, .tex, .csv, .parquet and .json."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the table of STUDY as far as its runs are stored."""
    from orchestrator.report import write_report
    from orchestrator.report.records import to_records
    from orchestrator.running import table_of
    from orchestrator.store import Store

    opened = Home(home.expanduser().absolute())
    planned = load_plan(
        study,
        scale=scale,
        home=opened.path,
        methods=methods,
        targets=targets,
        seeds=seeds,
        overrides=overrides or (),
    )
    table = table_of(planned, Store.read(opened))
    if out is not None:
        for path in write_report(table, out):
            say(str(path))
    if as_json:
        print_json(to_records(table))
    elif out is None:
        _print_table(table)


@app.command()
def reconcile(
    home: HomeOption = DEFAULT_HOME,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Make the database anew from the stored artifacts."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring the database and the folders together after a crash; `run` does so too."""
    from orchestrator.store import Store
    from orchestrator.store import rebuild as rebuild_database

    opened = open_home(home)
    if rebuild:
        count = rebuild_database(opened)
        say(f"the database was made anew from {count} stored runs")
        if as_json:
            print_json({"rebuilt": count})
        return
    with Store.open(opened) as store:
        if as_json:
            print_json(store.reconciled)
            return
        for key, what in store.reconciled.items():
            say(f"run {key}: {what}")
        say(f"{len(store.finished())} runs are stored, {len(store.reconciled)} had been cut short")


@app.command()
def ui(
    home: HomeOption = DEFAULT_HOME,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    host: Annotated[str, typer.Option(help="A loopback address; tunnel to it.")] = "127.0.0.1",
    open_browser: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
) -> None:
    """Serve the MLflow UI over everything stored, on this machine only."""
    from orchestrator.ui import serve

    opened = Home(home.expanduser().absolute())
    ended = serve(opened.path, port=port, host=host, open_browser=open_browser, tell=typer.echo)
    raise typer.Exit(ended)


@app.command()
def doctor(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Check whether this machine is ready. Exit status 1 if something has to be mended."""
    from dataclasses import asdict

    from orchestrator.doctor import diagnose, render

    checks = diagnose(home.expanduser().absolute())
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        _print(render(checks))
    raise typer.Exit(int(any(check.status == "fail" for check in checks)))


@data_app.command("list")
def data_list(
    home: HomeOption = DEFAULT_HOME,
    image_size: Annotated[int, typer.Option(help="Side that networks see, in pixels.")] = 256,
    as_json: JsonOption = False,
) -> None:
    """List the datasets: what they are, how many images, and whether they are prepared."""
    from orchestrator.datasets import listed, render_datasets

    records = listed(home.expanduser().absolute(), image_size)
    if as_json:
        print_json(records)
    else:
        _print(render_datasets(records))


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="As `hdsweep data list` calls it.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder of the official download.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    image_size: Annotated[int, typer.Option(help="Side that networks see, in pixels.")] = 256,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core.")] = None,
    lenient: Annotated[
        bool, typer.Option("--any-count", help="Accept another number of images.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn an official download into one checked Arrow file."""
    from orchestrator.datasets import prepare_dataset

    prepared = prepare_dataset(
        name,
        source,
        open_home(home),
        image_size=image_size,
        workers=workers,
        strict=not lenient,
    )
    say(f"{prepared.title}: {prepared.images} images, fingerprint {prepared.fingerprint[:16]}")
    if as_json:
        print_json(prepared.model_dump(mode="json"))


def _print(renderable: Any) -> None:
    from rich.console import Console

    Console().print(renderable)


def _print_table(table: Any) -> None:
    from orchestrator.report.terminal import render

    _print(render(table))


def _tell_failures(plan: Plan, result: Any) -> None:
    """Name what failed, runs of the same cause together, and what could not start for it."""
    causes: dict[str, list[str]] = {}
    for key, failure in result.failed.items():
        causes.setdefault(str(failure), []).append(plan.by_key[key].label)
    for cause, labels in causes.items():
        say(f"failed: {in_short(labels, most=MOST_NAMED)}: {one_line(cause)}")
    waiting: dict[str, list[str]] = {}
    for key, needed in result.blocked.items():
        waiting.setdefault(plan.by_key[needed].label, []).append(plan.by_key[key].label)
    for needed, labels in waiting.items():
        say(f"blocked by `{needed}`: {in_short(labels, most=MOST_NAMED)}")
    if result.interrupted:
        say(INTERRUPTED)


if __name__ == "__main__":
    main()
