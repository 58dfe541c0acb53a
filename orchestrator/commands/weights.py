"""`hdsweep weights`: the ImageNet weights that four rows of the table start from."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.commands.common import (
    DEFAULT_HOME,
    HomeOption,
    JsonOption,
    print_json,
    print_rich,
    say,
)
from orchestrator.home import open_home

app = typer.Typer(help="ImageNet weights: list, import, fetch.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="resnet50 or mit_b3.")]


@app.command("list")
def list_(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the ImageNet weights: which rows need them, and whether they are here."""
    from orchestrator.weights import listed, render_weights

    records = listed(home.expanduser().absolute())
    if as_json:
        print_json(records)
    else:
        print_rich(render_weights(records))


@app.command("import")
def import_(
    name: NameArgument,
    source: Annotated[Path, typer.Argument(help="File, or folder that holds one.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Check weights that you have against the network, and store them as safetensors."""
    from orchestrator.weights import import_weights, render_report

    report = import_weights(name, source, open_home(home))
    say(f"{name}: {render_report(report)}")
    if as_json:
        print_json({"loaded": report.loaded, "new": report.new, "unexpected": report.unexpected})


@app.command()
def fetch(
    name: NameArgument,
    url: Annotated[str | None, typer.Option(help="A mirror of the published file.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Download published weights, check them, and store them as safetensors."""
    from orchestrator.weights import fetch_weights, render_report

    report = fetch_weights(name, open_home(home), url=url)
    say(f"{name}: {render_report(report)}")
    if as_json:
        print_json({"loaded": report.loaded, "new": report.new, "unexpected": report.unexpected})
