"""`hdsweep reproduce`: is a stored number what its inputs give?"""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.commands.common import (
    DEFAULT_HOME,
    HomeOption,
    JsonOption,
    ScaleOption,
    print_json,
    put,
)
from orchestrator.errors import InputError
from orchestrator.home import Home
from orchestrator.private_folder import private_folder


def reproduce(
    what: Annotated[
        str, typer.Argument(help="A run's key, a cell (hybrid_ft/ph2/1), or a trial (SEARCH/3).")
    ],
    study: Annotated[str, typer.Option(help="Study that a cell is looked for in.")] = "table2",
    scale: ScaleOption = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train its pretraining again too.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Train a stored run again from the same inputs: bit-identical, or what drifted.

    First everything that made the number is shown: metrics, settings, data, code, hardware. In a
    scratch folder; nothing stored is touched. Exit status 1 if anything drifted.
    """
    # As the workers of a sweep have it; read when torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    from orchestrator.plan import load_plan
    from orchestrator.reproduce import keys_of, made_of
    from orchestrator.reproduce import reproduce as train_again
    from orchestrator.store import Store

    opened = Home(home.expanduser().absolute())
    store = Store.read(opened)
    if store is None:
        raise InputError(f"nothing is stored in `{opened.path}`")
    cell = what.count("/") == 2
    plan = load_plan(study, scale=scale, home=opened.path) if cell else None
    drifted = False
    for key in keys_of(what, store, plan):
        code = plan.by_key[key].code if plan is not None else None
        made = made_of(key, store)
        if not as_json:
            put(f"{key} was made of")
            for name, value in made.items():
                put(f"  {name}: {value}")
        with private_folder("reproduction", Path(tempfile.gettempdir())) as folder:
            again = train_again(key, store, opened, folder, from_scratch=from_scratch, code=code)
            for found in again:
                drifted |= not found.identical
                if as_json:
                    own = made if found.key == key else made_of(found.key, store)
                    told = {**vars(found), "identical": found.identical, "made_of": own}
                    print_json(told)
                    continue
                verdict = "bit-identical" if found.identical else "DRIFTED"
                put(f"{found.key} {found.label}: {verdict}")
                for name, (before, now) in found.drift.items():
                    put(f"  {name}: stored {before}, now {now}")
                for name, (before, now) in found.environment.items():
                    put(f"  other {name}: stored {before}, now {now}")
    raise typer.Exit(int(drifted))
