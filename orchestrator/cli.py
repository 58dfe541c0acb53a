"""The `hdsweep` command: its verbs, and how it ends."""

import json
import os
import sys
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

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
from orchestrator.commands.common import put, say
from orchestrator.errors import HdsweepError, InputError
from orchestrator.json_documents import error_document
from orchestrator.process import unusable
from orchestrator.process.environment import settle
from orchestrator.process.stopping import run_until_asked
from orchestrator.process.streams import (
    make_robust,
    require_utf8,
    require_working_directory,
    require_written,
    start_as_meant,
)
from orchestrator.study.checking import LONGEST_SHOWN

INTERRUPTED = 130


class _Verbs(TyperGroup):
    """Tells what cannot be taken, a number or a path, as every other error: in one line that has it."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        for command in self.commands.values():
            _fill_paragraphs(command)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                raise _refused(error, error.__cause__) from error
            raise
        except (OSError, ValueError) as error:
            found = unusable.told(error)
            if found is None or isinstance(error, BrokenPipeError):
                raise
            raise found from error


def _fill_paragraphs(command: Any) -> None:
    """Have the help of a command, and of those below it, be as wide as the terminal: not as its source."""
    paragraphs = (command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(each.split("\n")) for each in paragraphs)
    for below in getattr(command, "commands", {}).values():
        _fill_paragraphs(below)


def _refused(error: typer.BadParameter, cause: ValidationError) -> InputError:
    found = cause.errors()[0]
    option: Any = error.param
    ends = f"from {option.min} to {option.max}"
    kind = "a whole number" if found["type"].startswith("int") else "a number"
    wanted = found["msg"] if option.min is None else f"must be {kind} {ends}"
    return InputError(f"{option.opts[0]} {str(found['input'])[:LONGEST_SHOWN]}: {wanted}")


app = typer.Typer(
    cls=_Verbs,
    name="hdsweep",
    help="Sweeps of hybrid diffusion pretraining and label-efficient fine-tuning.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
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


def _for_machines() -> bool:
    return "--json" in sys.argv


def _call() -> None:
    """Run the command; what typer itself refuses is an error like ours where machines read it."""
    if not _for_machines():
        app(standalone_mode=True)
        return
    try:
        ended = app(standalone_mode=False)
    except typer.TyperException as error:
        raise InputError(error.format_message()) from error
    except typer.Abort as error:
        raise SystemExit(INTERRUPTED) from error
    sys.exit(ended if isinstance(ended, int) else 0)


def main() -> None:
    """Run the command and leave with its exit status; an error is one clear line."""
    start_as_meant()
    make_robust()
    settle()
    try:
        require_working_directory()
        require_utf8((*sys.argv, os.environ.get("HDSWEEP_HOME", "")))
        try:
            run_until_asked(_call)
        finally:
            require_written()
    except HdsweepError as error:
        say(json.dumps(error_document(error)) if _for_machines() else f"error: {error}")
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
        from importlib.metadata import version  # Which takes a while to load.

        put(version("hdsweep"))
        raise typer.Exit


if __name__ == "__main__":
    main()
