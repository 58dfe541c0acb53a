"""Which stored sweep a plan belongs to, and what the stored ones are called.

Looks at the MLflow runs of sweeps and at the folders of their artifacts; writes neither.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.plan.identity import distinct, unknown_sweep
from orchestrator.plan.plan import Plan, plan_of, whole_of
from orchestrator.store.sweeps.file import Description, read
from orchestrator.store.tracking.database import Known

SWEEP, SWEEP_KEY, SWEEP_NAME = "hdsweep.sweep", "hdsweep.sweep_key", "hdsweep.sweep_name"
TABLE_FOLDER, TABLE_FILE = "table", "table.json"


@dataclass(frozen=True)
class Chosen:
    """Where what comes of a plan is written."""

    plan: Plan
    """The plan, or the whole that it is a part of if that is stored: of this a table is made."""
    known: Known | None
    """The MLflow run of the sweep, if there is one yet."""
    was: str | None = None
    """Key that it was kept under until now."""

    @property
    def key(self) -> str:
        """Of the sweep."""
        return self.plan.identity.key


class SweepRecords:
    """The stored sweeps by key; those of before sweeps had one are kept under `study/scale`."""

    def __init__(self, parents: Mapping[str, Known], folder_of: Callable[[str], Path]) -> None:
        """Look at these.

        Args:
            folder_of: returns the folder of an MLflow run's artifacts.
        """
        self._parents, self._folder_of = parents, folder_of

    def names(self) -> dict[str, str]:
        """Return the name of each sweep by its key; no two are the same."""
        return distinct(
            {key: known.tags.get(SWEEP_NAME, key) for key, known in self._parents.items()}
        )

    def folder(self, key: str) -> Path:
        """Return the folder of a sweep's artifacts."""
        return self._folder_of(self._parents[key].run_id)

    def description(self, key: str) -> Description | None:
        """Return what a sweep is, as it was written down; None of one from before that was done."""
        return read(self.folder(key)) if key in self._parents else None

    def of_plan(self, plan: Plan) -> str | None:
        """Return the key of the sweep that a plan is, or is a part of; None if none is stored."""
        identity = plan.identity
        for key in (identity.digest, identity.key):
            if key in self._parents:
                return key
        return identity.base if self._may_be(identity.base, plan) else None

    def require(self, plan: Plan, *, where: str) -> None:
        """Raise an InputError, with the sweeps there are, unless something of a plan is stored."""
        parts = (key for key in self._parents if key.startswith(f"{plan.identity.digest}-"))
        if self.of_plan(plan) is None and not any(parts):
            raise unknown_sweep(plan.identity.name, self.names().values(), where=where)

    def choose(self, plan: Plan, home: Path) -> Chosen:
        """Return where what comes of a plan belongs.

        What is stored as a whole stays one: a part of it completes it. A part of nothing is a sweep of its own.
        """
        digest, base = plan.identity.digest, plan.identity.base
        if digest in self._parents:
            before = self.description(digest)
            whole = _whole(plan, home, before.seeds if before else ())
            return Chosen(whole or plan, self._parents.get((whole or plan).identity.key))
        whole = _whole(plan, home) if plan.identity.subset and base in self._parents else plan
        if whole is not None and self._fits(base, whole, home):
            return Chosen(whole, self._parents[base], base)
        return Chosen(plan, self._parents.get(plan.identity.key))

    def parts_of(self, plan: Plan) -> list[str]:
        """Return the keys of the stored subsets of a whole."""
        identity = plan.identity
        if identity.subset:
            return []
        return [key for key in self._parents if key.startswith(f"{identity.digest}-")]

    def nearest(self, key: str) -> str:
        """Return the whole of a subset, if that is stored, or the key itself."""
        whole = key.partition("-")[0]
        return whole if whole in self._parents else key

    def _may_be(self, base: str, plan: Plan) -> bool:
        """Whether a sweep from before sweeps had keys has any run of a plan in its table, or no table."""
        if base not in self._parents:
            return False
        keys = table_keys(self.folder(base))
        return not keys or not keys.isdisjoint(plan.table.values())

    def _fits(self, base: str, plan: Plan, home: Path) -> bool:
        """Whether a sweep from before sweeps had keys is that of a plan: by the runs of its table.

        One of which that does not tell (no table, or only rows that read none of what was set) is taken for
        the study as it is.
        """
        if base not in self._parents:
            return False
        keys = table_keys(self.folder(base))
        if not keys <= set(plan.table.values()):
            return False
        return not plan.identity.differences or not keys <= _keys_as_it_is(plan, home)


def table_keys(folder: Path) -> set[str]:
    """Return the keys of the runs that the table in a sweep's folder is of; none without a table."""
    try:
        content = json.loads((folder / TABLE_FOLDER / TABLE_FILE).read_text(encoding="utf-8"))
        return {key for cell in content["cells"] for key in cell["keys"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _keys_as_it_is(plan: Plan, home: Path) -> set[str]:
    """Return the keys in the table of a plan's study and scale, with nothing set besides."""
    if plan.recipe is None:
        return set()
    recipe = replace(plan.recipe, overrides=(), search=None, answer=None)
    try:
        return set(plan_of(recipe, home).table.values())
    except InputError:
        return set()


def _whole(plan: Plan, home: Path, seeds: tuple[int, ...] = ()) -> Plan | None:
    """Return the whole that a plan is a part of; None if the other rows cannot be planned."""
    try:
        return whole_of(plan, home, seeds=seeds)
    except InputError:
        return None
