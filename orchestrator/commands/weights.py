"""`hdsweep weights`: the ImageNet weights that four rows of the table start from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.commands.common import (
    DEFAULT_HOME,
    AdoptOption,
    HomeOption,
    JsonOption,
    print_json,
    print_rich,
    say,
)
from orchestrator.store.home.home import Home, open_home

if TYPE_CHECKING:
    from trainables.networks.weights import KeyReport

app = typer.Typer(help="ImageNet weights: list, import, fetch.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="resnet50 or mit_b3.")]


@app.command("list")
def list_(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the ImageNet weights: which rows need them, and whether they are here."""
    from orchestrator.verbs.weights import listed, render_weights

    records = listed(home.expanduser().absolute())
    if as_json:
        print_json("weights.list", {"weights": records})
    else:
        print_rich(render_weights(records))


@app.command("import")
def import_(
    name: NameArgument,
    source: Annotated[Path, typer.Argument(help="File, or folder that holds one.")],
    home: HomeOption = DEFAULT_HOME,
    adopt: AdoptOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check weights that you have against the network, and store them as safetensors."""
    from orchestrator.verbs.weights import import_weights

    opened = open_home(home, adopt=adopt)
    _report(name, opened, import_weights(name, source, opened), as_json=as_json)


@app.command()
def fetch(
    name: NameArgument,
    url: Annotated[str | None, typer.Option(help="A mirror of the published file.")] = None,
    home: HomeOption = DEFAULT_HOME,
    adopt: AdoptOption = False,
    as_json: JsonOption = False,
) -> None:
    """Download published weights, check them, and store them as safetensors."""
    from orchestrator.verbs.weights import fetch_weights

    opened = open_home(home, adopt=adopt)
    _report(name, opened, fetch_weights(name, opened, url=url), as_json=as_json)


def _report(name: str, home: Home, report: "KeyReport", *, as_json: bool) -> None:
    """Say what a file did and which one it was."""
    from orchestrator.verbs.weights import imported_record, render_report

    record = imported_record(name, home, report)
    say(f"{name}: {render_report(report)}")
    say(f"{name}: sha256 {record['source_sha256']}, stored as {record['sha256']}")
    if not record["published"]:
        say(f"{name}: not the published file; no number built on it is held against the paper's")
    if as_json:
        print_json("weights.imported", record)
