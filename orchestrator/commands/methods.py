"""`hdsweep check`: methods of your own."""

from typing import Annotated

import typer

from orchestrator.commands.common import JsonOption, print_json, put, say


def check(
    method: Annotated[str, typer.Argument(help="A method by name, or a Python file of them.")],
    as_json: JsonOption = False,
) -> None:
    """Try out a method on a few updates: does it keep what the sweep relies on?

    Exit status 1 if it does not.
    """
    from orchestrator.verbs.check import checked

    broken = False
    records = []
    for known, each in checked(method):
        finding = each.finding
        broken |= not finding.kept
        if as_json:
            records.append({"method": known.name, "run": each.run, **vars(finding)})
        else:
            detail = f" ({finding.detail})" if finding.detail else ""
            mark = "ok  " if finding.kept else "FAIL"
            put(f"{mark} {each.run}: {finding.promise}{detail}")
    if as_json:
        print_json("check", {"kept": not broken, "findings": records})
    if broken:
        say(f"{method} does not keep what the sweep relies on; see trainables/loop.py")
        raise typer.Exit(1)
