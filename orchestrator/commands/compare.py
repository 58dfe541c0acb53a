"""`hdsweep compare`: do two sweeps say the same, and if not, why?"""

from typing import Annotated

import typer

from orchestrator.commands.common import (
    DEFAULT_HOME,
    HomeOption,
    JsonOption,
    print_json,
    print_rich,
)

WHICH = (
    "A home with one sweep, a sweep of --home by its name ('table2/demo, mask_weight=0.01') "
    "or key ('#1a2b3c4d'), or HOME:SWEEP."
)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=WHICH)],
    b: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Hold the stored tables of two sweeps together, seed by seed, and say why they differ.

    Exit status: 0 every value is the same to the last bit, 1 one differs or is missing on one side,
    2 wrong input.
    """
    from orchestrator.verbs.compare import compare as hold_together
    from orchestrator.verbs.compare import open_side, render, to_record

    here = home.expanduser().absolute()
    found = hold_together(open_side(a, here), open_side(b, here))
    if as_json:
        print_json("compare", to_record(found))
    else:
        print_rich(render(found))
    raise typer.Exit(int(not found.identical))
