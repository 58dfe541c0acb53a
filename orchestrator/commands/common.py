"""What the commands share: options that mean the same everywhere, and how they print.

Standard output carries data only, so that it can be piped; talk goes to standard error.
"""

import contextlib
import gc
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.errors import InputError
from orchestrator.json_documents import document
from orchestrator.store.home.home import home_folder
from trainables.bounds import MOST_CPUS, MOST_TRIES

UNLIMITED = 100_000  # Columns of what is no terminal.
DEFAULT_HOME = Path("~/.hdsweep")
MOST_GPU_GB = 10_000

# The panels of `--help`.
WHAT, HOW, WHERE, WATCHING = "What runs", "How it runs", "Where it runs and is kept", "Watching"
HOME_VARIABLE = "HDSWEEP_HOME"


def _home(value: str | Path) -> Path:
    """Return the folder that --home names; HDSWEEP_HOME set to nothing is as wrong as --home ""."""
    from_default = isinstance(value, Path) or value == str(DEFAULT_HOME)
    if from_default and os.environ.get(HOME_VARIABLE, "unset").strip() == "":
        raise InputError(f"{HOME_VARIABLE} is set to nothing", hint="unset it, or name a folder")
    return home_folder(value)


StudyArgument = Annotated[
    str,
    typer.Argument(
        help="A study by name (table2), its .toml file, or a stored sweep by its name "
        "('table2/demo, mask_weight=0.01') or the beginning of its key ('#1a2b3c')."
    ),
]
HomeOption = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar=HOME_VARIABLE,
        metavar="FOLDER|s3://...|gs://...",
        help="Where everything is kept.",
        parser=_home,
        rich_help_panel=WHERE,
    ),
]
NotifyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--notify",
        metavar="WHAT",
        help="Tell a URL (POST) or a command (stdin), as JSON: end, first failure, stall.",
        rich_help_panel=WATCHING,
    ),
]
StallOption = Annotated[
    int,
    typer.Option(
        "--stall-minutes",
        min=1,
        max=100_000,
        help="Without a sign of life: a stall, for --notify.",
        rich_help_panel=WATCHING,
    ),
]
AdoptOption = Annotated[
    bool,
    typer.Option(
        "--adopt",
        help="Take a --home that has other files in it; they are left alone.",
        rich_help_panel=WHERE,
    ),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(
        "--scale",
        help="paper, demo, smoke or a .toml file; the study's by default.",
        rich_help_panel=WHAT,
    ),
]
MethodsOption = Annotated[
    str | None,
    typer.Option("--methods", help="Rows: names, baselines, hybrid, all.", rich_help_panel=WHAT),
]
TargetsOption = Annotated[
    str | None, typer.Option("--targets", help="Target datasets.", rich_help_panel=WHAT)
]
SeedsOption = Annotated[
    str | None, typer.Option("--seeds", help="Such as 0,1.", rich_help_panel=WHAT)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Such as pretraining.mask_weight=1e-3.",
        rich_help_panel=WHAT,
    ),
]
RandomBackboneOption = Annotated[
    bool,
    typer.Option(
        "--allow-random-backbone",
        help="Run ImageNet rows without their weights, as rows called random_...",
        rich_help_panel=WHAT,
    ),
]
FromTuneOption = Annotated[
    str | None,
    typer.Option(
        "--from-tune",
        metavar="NAME",
        help="Use what a search of `hdsweep tune` found.",
        rich_help_panel=WHAT,
    ),
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        envvar="HDSWEEP_TRACKING_URI",
        metavar="http://...|home",
        help="MLflow server that keeps the runs; a database in the home by default.",
        rich_help_panel=WHERE,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST_CPUS,
        help="Runs at once on this machine; one per core.",
        rich_help_panel=HOW,
    ),
]
AddressOption = Annotated[
    str, typer.Option(help="Ray cluster to join; local starts one.", rich_help_panel=WHERE)
]
GpuGbOption = Annotated[
    float | None,
    typer.Option(
        min=1,
        max=MOST_GPU_GB,
        help="Memory in GB of a cluster's GPUs that are not there yet.",
        rich_help_panel=HOW,
    ),
]
RetriesOption = Annotated[
    int,
    typer.Option(
        min=0, max=MOST_TRIES, help="After an error or a lost worker.", rich_help_panel=HOW
    ),
]
ProgressOption = Annotated[
    str, typer.Option(help="auto, live, plain or none.", rich_help_panel=WATCHING)
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="JSON on standard output.", rich_help_panel=WATCHING)
]


@contextlib.contextmanager
def nothing_collected() -> Iterator[None]:
    """Switch garbage collection off, for verbs that only read: what they read stays to their end.

    Looking for garbage among the runs of a large home would take a fifth of their time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def say(text: str) -> None:
    """Tell people something; a closed terminal is no reason to stop."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def put(text: str) -> None:
    """Print a line of data; not by typer, which takes an ASCII terminal for a mistake."""
    print(text, flush=True)


def print_json(schema: str, value: Mapping[str, Any]) -> None:
    """Print the JSON document of a call, the only one; docs/json.md describes each by its schema."""
    put(json.dumps(document(schema, value), allow_nan=False))


def print_rich(renderable: Any) -> None:
    """Print something of rich's, as wide as the terminal is; in a pipe nothing is cut or wrapped."""
    from rich.console import Console

    # Names and titles are somebody's: what looks like markup or an emoji in them is neither.
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console.width = UNLIMITED
    console.print(renderable, crop=False)  # Addresses are copied whole or not at all.


def print_table(table: Any) -> None:
    """Print the table of a study."""
    from orchestrator.report.writers.terminal import render

    print_rich(render(table))
