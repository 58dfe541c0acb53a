"""The `hdsweep` command: its verbs, and how it ends."""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from orchestrator.commands import (
    cluster,
    compare,
    data,
    methods,
    reproduce,
    results,
    sweep,
    tune,
    upkeep,
    weights,
)
from orchestrator.commands.common import say
from orchestrator.errors import HdsweepError

app = typer.Typer(
    name="hdsweep",
    help="Sweeps of hybrid diffusion pretraining and label-efficient fine-tuning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(sweep.run)
app.command()(sweep.plan)
app.command()(sweep.status)
app.command()(results.report)
app.command()(reproduce.reproduce)
app.command()(compare.compare)
app.command()(tune.tune)
app.command()(methods.check)
app.command()(upkeep.reconcile)
app.command()(upkeep.ui)
app.command()(upkeep.doctor)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")
app.add_typer(cluster.app, name="cluster")


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


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show:
        typer.echo(version("hdsweep"))
        raise typer.Exit


if __name__ == "__main__":
    main()
