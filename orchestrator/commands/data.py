"""`hdsweep data`: which datasets there are, and preparing them."""

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

app = typer.Typer(help="Prepare datasets.", no_args_is_help=True)


@app.command("list")
def list_(
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
        print_rich(render_datasets(records))


@app.command("prepare")
def prepare(
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
