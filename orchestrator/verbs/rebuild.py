"""`hdsweep reconcile --rebuild`: a tracking database made anew, and all that follows from the runs in it.

The store brings back runs, sweeps and searches from their folders. What is derived from them (tables, pages,
means, notes) is derived again here, from the plan that is stored with each sweep; where that cannot be planned
any more, what its table says is taken as it is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from orchestrator.errors import InputError
from orchestrator.plan.plan import Plan, plan_of, whole_of
from orchestrator.process.stopping import Say
from orchestrator.store.home.home import Home
from orchestrator.store.store import Store, rebuilt
from orchestrator.store.sweeps.records import TABLE_FILE, TABLE_FOLDER, table_keys
from orchestrator.verbs.asked import asked_plan, recipe_of_sweep
from orchestrator.verbs.run import table_of, write_table


@dataclass(frozen=True)
class Rebuilt:
    """What a new database has."""

    runs: int
    sweeps: tuple[str, ...]
    """Their names."""
    searches: tuple[str, ...]

    @classmethod
    def of(cls, store: Store) -> Self:
        """Return what the database of a store has."""
        names = tuple(store.sweeps.names().values())
        return cls(len(store.finished()), names, store.searches())

    def names(self) -> dict[str, list[str]]:
        """Return the sweeps and searches for machines."""
        return {"sweeps": list(self.sweeps), "searches": list(self.searches)}


def rebuild(home: Home, tracking_uri: str | None = None, say: Say = lambda _: None) -> Rebuilt:
    """Make the tracking database of a home anew; the old one is kept beside it.

    Args:
        tracking_uri: server that keeps the runs from now on, or `home`; where they are by default.
        say: is told of what could not be derived again.

    Raises:
        InputError: if another driver is alive, or the server does not answer.
    """
    with rebuilt(home, tracking_uri) as store:
        names = store.sweeps.names()
        for key, name in names.items():
            derive(store, key, name, say)
        return Rebuilt.of(store)


def derive(store: Store, key: str, name: str, say: Say) -> None:
    """Derive table, page, means and note of a stored sweep from its runs again."""
    folder = store.sweeps.folder(key)
    plan = _plan(store, key, name, say)
    if plan is not None:
        store.take_up(key, plan)
        write_table(store, table_of(plan, store), plan)
    elif (folder / TABLE_FOLDER / TABLE_FILE).is_file():
        content = json.loads((folder / TABLE_FOLDER / TABLE_FILE).read_text(encoding="utf-8"))
        store.take_up(key, None)
        store.note_table(_rows(content), _note(folder))


def _plan(store: Store, key: str, name: str, say: Say) -> Plan | None:
    """Return what a sweep is the table of; None, and told, if that cannot be planned any more."""
    description = store.sweeps.description(key)
    try:
        if description is not None:
            plan = plan_of(recipe_of_sweep(description), store.home.path)
            return (
                whole_of(plan, store.home.path, seeds=description.seeds)
                if _is_whole(key)
                else plan
            )
        plan = asked_plan(name.partition(" #")[0], store.home.path)
    except InputError as error:
        say(f"`{name}` is kept as it was, it cannot be planned: {str(error).splitlines()[0]}")
        return None
    # From before sweeps were described: it may have been a part, or of other settings.
    if table_keys(store.sweeps.folder(key)) <= set(plan.table.values()):
        return plan
    say(f"`{name}` is kept as it was: it was not of the settings of the study as it is")
    return None


def _is_whole(key: str) -> bool:
    return "-" not in key


def _rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = content["cells"]
    return rows


def _note(folder: Path) -> str:
    file = folder / TABLE_FOLDER / "table.md"
    return file.read_text(encoding="utf-8") if file.is_file() else ""
