"""`hdsweep reproduce`: is a stored number what its inputs give?"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.commands.common import (
    DEFAULT_HOME,
    HomeOption,
    JsonOption,
    ScaleOption,
    print_json,
    put,
    say,
)
from orchestrator.errors import InputError
from orchestrator.process.private_folder import private_folder
from orchestrator.store.home.home import Home

if TYPE_CHECKING:
    from orchestrator.plan.plan import Plan
    from orchestrator.verbs.reproduce import Reproduced


def reproduce(
    what: Annotated[
        str, typer.Argument(help="A run's key, a cell (hybrid_ft/ph2/1), or a trial (SEARCH/3).")
    ],
    study: Annotated[
        str | None,
        typer.Option(
            help="Study, or stored sweep by name or '#key', that a cell is looked for in; all by default."
        ),
    ] = None,
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
    from orchestrator.store.store import Store
    from orchestrator.verbs.asked import plans_of_cell
    from orchestrator.verbs.reproduce import keys_of, made_of
    from orchestrator.verbs.reproduce import reproduce as train_again

    opened = Home(home.expanduser().absolute())
    store = Store.read(opened)
    if store is None:
        raise InputError(f"nothing is stored in `{opened.path}`")
    plans = plans_of_cell(store, study, scale, say) if what.count("/") == 2 else {}
    records: list[dict[str, Any]] = []
    drifted = False
    for key in keys_of(what, store, plans):
        if not as_json:
            _print_made(key, made_of(key, store))
        with private_folder("reproduction", Path(tempfile.gettempdir())) as folder:
            for found in train_again(
                key,
                store,
                opened,
                folder,
                from_scratch=from_scratch,
                code=_code_of(key, plans),
            ):
                drifted |= not found.identical
                if as_json:
                    records.append(_record(found, made_of(found.key, store)))
                else:
                    for line in _lines(found):
                        put(line)
    if as_json:
        print_json("reproduce", {"what": what, "identical": not drifted, "runs": records})
    raise typer.Exit(int(drifted))


def _code_of(key: str, plans: Mapping[str, "Plan"]) -> Path | None:
    """Return the folder of the user's file that defines a run's method."""
    runs = (plan.by_key[key] for plan in plans.values() if key in plan.by_key)
    return next((run.code for run in runs), None)


def _print_made(key: str, made: Mapping[str, str]) -> None:
    put(f"{key} was made of")
    for name, value in made.items():
        put(f"  {name}: {value}")


def _lines(found: "Reproduced") -> Iterator[str]:
    verdict = "bit-identical" if found.identical else "DRIFTED"
    yield f"{found.key} {found.label}: {verdict}"
    for name, (before, now) in found.drift.items():
        yield f"  {name}: stored {before}, now {now}"
    for name, (before, now) in found.environment.items():
        yield f"  other {name}: stored {before}, now {now}"


def _record(found: "Reproduced", made: Mapping[str, str]) -> dict[str, Any]:
    return {**vars(found), "identical": found.identical, "made_of": made}
