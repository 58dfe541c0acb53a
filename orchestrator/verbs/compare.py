"""`hdsweep compare`: two stored sweeps, cell by cell and seed by seed, and why they differ.

Nothing is planned or trained: a stored table says which run made each number, and each stored run
has its spec and the environment that it ran in. Both homes are only read.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from orchestrator.errors import InputError
from orchestrator.plan.differences import differences
from orchestrator.plan.identity import KEYED, find
from orchestrator.store.home.home import Home, home_folder
from orchestrator.store.store import Store, StoredRun
from trainables.result import Artifact, Result

WEIGHTS = "weights.safetensors"
OF_START = "its pretraining: "
NO_KEYS = "a table does not say which runs it is of; the same `hdsweep run` again writes it anew"
GONE = "a run is not stored any more, or cannot be read"
NOTHING_RECORDED = "same spec, same environment: not deterministic there, or changed since"
ABSENT = "not in this sweep"
LONG_HASH = re.compile(r"\b([0-9a-f]{16})[0-9a-f]{16,}\b")

State = Literal["identical", "differs", "only_a", "only_b", "neither"]
Record = Mapping[str, Any]
"""A cell as in `table.json`."""


@dataclass(frozen=True)
class Side:
    """A stored sweep, and the runs of its home."""

    home: Path
    sweep: str
    """Its name: `study/scale`, and what was set besides."""
    cells: Mapping[tuple[str, str], Record]
    """By method and target."""
    runs: Mapping[str, StoredRun]
    """Finished, by key."""
    named: Record | None = None
    """What its table says of which sweep it is."""

    def __str__(self) -> str:
        return f"{self.sweep} of {self.home}"

    def read(self, key: str, name: str) -> dict[str, Any] | None:
        """Return a JSON artifact of a run; None if it is not there."""
        return _read_json(self.runs[key].artifacts / name) if key in self.runs else None

    def result(self, key: str) -> Result | None:
        """Return the result of a run; None if it is not there, or cannot be read."""
        with suppress(KeyError, OSError, ValueError):
            return Result.read(self.runs[key].artifacts)
        return None


@dataclass(frozen=True)
class SeedPair:
    """One seed of one cell on both sides, in percent."""

    a: float | None
    b: float | None
    keys: tuple[str | None, str | None]
    missing: tuple[str | None, str | None]
    """Why a side has no value."""

    @property
    def state(self) -> State:
        """How the two relate, to the last bit."""
        if self.a is None or self.b is None:
            return (
                "only_b" if self.b is not None else "only_a" if self.a is not None else "neither"
            )
        return "identical" if self.a == self.b else "differs"

    @property
    def difference(self) -> float | None:
        """B minus A, in percent points."""
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True)
class CellPair:
    """One method on one target on both sides."""

    method: str
    target: str
    a: Record
    """Empty where a side lacks the cell."""
    b: Record
    seeds: Mapping[int, SeedPair]

    @property
    def dataset(self) -> str:
        """What people read of the target: `ph2-like` where a side has generated images of its kind."""
        shown = dict.fromkeys(side["dataset"] for side in (self.a, self.b) if "dataset" in side)
        return ", ".join(shown) or self.target

    @property
    def difference(self) -> float | None:
        """Mean of B minus mean of A, in percent points."""
        before, after = self.a.get("mean"), self.b.get("mean")
        return None if before is None or after is None else after - before


@dataclass(frozen=True)
class Comparison:
    """Two sweeps, held together."""

    a: Side
    b: Side
    cells: tuple[CellPair, ...]
    reasons: Mapping[str, tuple[str, ...]]
    """Each reason once, with the cells that it concerns as `method/target`."""

    @property
    def identical(self) -> bool:
        """Whether every value is the same on both sides, to the last bit."""
        return self._states <= {"identical", "neither"}

    @property
    def said(self) -> str:
        """What came out, in a sentence."""
        if self.identical:
            return "every value is the same to the last bit"
        if "differs" in self._states:
            return "the values differ"
        if "identical" in self._states:
            return "every value that both have is the same to the last bit; the rest is on one side only"
        return "no value is on both sides"

    @property
    def _states(self) -> set[State]:
        return {pair.state for cell in self.cells for pair in cell.seeds.values()}


def open_side(what: str, home: Path) -> Side:
    """Return the sweep that a user means.

    Args:
        what: a home with one sweep, the name of a sweep, such as `study/scale`, or `home:name`.
        home: where a sweep without a home is looked for.

    Raises:
        InputError: if nothing stored is meant by it, or more than one sweep.
    """
    path, sweep = _meant(what, home)
    store = Store.read(Home(path))
    tables = store.tables() if store is not None else {}
    if store is None or not tables:
        raise InputError(f"`{path}` holds no table of a sweep")
    if sweep is None:
        if len(tables) > 1:
            separator = "; " if any(", " in name for name in tables) else ", "
            named = separator.join(f"{what}:{name}" for name in sorted(tables))
            raise InputError(f"`{path}` holds {len(tables)} sweeps", hint=f"one of {named}")
        (sweep,) = tables
    known = {key: name for key, name in store.sweeps.names().items() if name in tables}
    sweep = known[find(sweep, known, where=str(path))]
    file = tables[sweep] / "table.json"
    cells, said = _cells(file, sweep), (_read_json(file) or {}).get("sweep")
    return Side(path, sweep, cells, store.finished(), said)


def compare(a: Side, b: Side) -> Comparison:
    """Return what two sweeps have in common, what not, and why."""
    names = dict.fromkeys([*a.cells, *b.cells])
    cells = tuple(_pair(name, a.cells.get(name), b.cells.get(name)) for name in names)
    why = _Why(a, b)
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        found = (reason for pair in cell.seeds.values() for reason in why.of(pair))
        for reason in dict.fromkeys(found):
            reasons.setdefault(reason, []).append(f"{cell.method}/{cell.target}")
    return Comparison(a, b, cells, {reason: tuple(where) for reason, where in reasons.items()})


def to_record(found: Comparison) -> dict[str, Any]:
    """Return the comparison for machines."""
    return {
        "identical": found.identical,
        **{
            name: {"home": str(side.home), "sweep": _sweep_of(side)}
            for name, side in (("a", found.a), ("b", found.b))
        },
        "cells": [_cell_record(cell) for cell in found.cells],
        "reasons": [{"reason": why, "cells": list(on)} for why, on in found.reasons.items()],
    }


def _sweep_of(side: Side) -> Record:
    """Return which sweep a side is, as its table says; one of an earlier version says nothing."""
    study, _, scale = side.sweep.partition(" #")[0].partition("/")
    unknown: Record = {
        "name": side.sweep,
        "key": None,
        "study": study,
        "scale": scale,
        "set": {},
        "only": [],
    }
    return side.named or unknown


def render(found: Comparison) -> Group:
    """Return the comparison for a terminal."""
    grid = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("method", no_wrap=True)
    grid.add_column("target", no_wrap=True)
    for name in ("A", "B", "B - A"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("seeds")
    for cell in found.cells:
        seeds = ", ".join(f"{seed} {_shown(pair)}" for seed, pair in cell.seeds.items())
        both = (_mean(cell.a), _mean(cell.b), _points(cell.difference))
        grid.add_row(cell.method, cell.dataset, *both, seeds)
    lines = [
        f"{reason}: {len(on)} {'cell' if len(on) == 1 else 'cells'}"
        for reason, on in found.reasons.items()
    ]
    sides = Text(f"A: {found.a}\nB: {found.b}")
    return Group(sides, grid, *(Text(line) for line in lines), Text(found.said))


class _Why:
    """Why the values of two sides differ: their specs, else where they ran."""

    def __init__(self, a: Side, b: Side) -> None:
        self._a, self._b = a, b
        # A pretraining is compared once for all cells that start from it.
        self._specs, self._environments = cache(self._of_specs), cache(self._of_environments)

    def of(self, pair: SeedPair) -> Iterator[str]:
        """Yield the reasons of one pair; none if it is the same run with the same value."""
        if pair.state == "neither":
            return
        if pair.a is None or pair.b is None:
            side = "A" if pair.a is None else "B"
            yield f"missing in {side}: {pair.missing[side == 'B'] or ABSENT}"
            return
        before, after = pair.keys
        if before is None or after is None:
            if pair.state == "differs":
                yield NO_KEYS
            return
        found = list(self._specs(before, after)) if before != after else []
        if pair.state == "differs":
            found += self._environments(before, after)
        yield from found or ([NOTHING_RECORDED] if pair.state == "differs" else [])

    def _of_specs(self, before: str, after: str) -> tuple[str, ...]:
        one, other = self._a.read(before, "spec.json"), self._b.read(after, "spec.json")
        if one is None or other is None:
            return (GONE,)
        changes = differences(one, other)
        # Another key of the pretraining says nothing: what changed in the pretraining does.
        starts = [d for d in changes if d.path == "pretrained.key" and d.before and d.after]
        found = [LONG_HASH.sub(r"\1", str(each)) for each in changes if each not in starts]
        for each in starts:
            started = self._specs(each.before, each.after)
            found += [_of_start(reason) for reason in started if reason not in found]
        return tuple(found)

    def _of_environments(self, before: str, after: str) -> tuple[str, ...]:
        one, other = self._a.result(before), self._b.result(after)
        if one is None or other is None:
            return (GONE,)
        found = _environment_changes(one.environment, other.environment)
        start = _start_of(self._a, before)
        if start is not None and start == _start_of(self._b, after):
            found += (_of_start(reason) for reason in self._environments(start, start))
            weights = [_weights_of(side, start) for side in (self._a, self._b)]
            if weights[0] != weights[1]:
                found.append(f"{OF_START}other weights under the same spec")
        return tuple(found)


def _weights_of(side: Side, key: str) -> Artifact | None:
    """Return the weights of a run as it wrote them; None if it has none, or cannot be read."""
    result = side.result(key)
    return None if result is None else result.artifacts.get(WEIGHTS)


def _start_of(side: Side, key: str) -> str | None:
    """Return the key of the pretraining that a run starts from."""
    spec = side.read(key, "spec.json") or {}
    return (spec.get("pretrained") or {}).get("key")


def _of_start(reason: str) -> str:
    return reason if reason.startswith("pretraining.") else f"{OF_START}{reason}"


def _environment_changes(before: Record, after: Record) -> list[str]:
    return [
        f"environment {name} {before.get(name)} -> {after.get(name)}"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]


def _meant(what: str, home: Path) -> tuple[Path, str | None]:
    """Return a home and the name of a sweep in it; None is its only one."""
    colons = [at for at, letter in enumerate(what) if letter == ":" and _is_named(what[at + 1 :])]
    # A home and a study may have a colon in their names: what is a home says which one it is.
    homes = (at for at in colons if len(colons) > 1 and Home(home_folder(what[:at])).exists())
    at = next(homes, colons[-1] if colons else 0)
    if at:
        return home_folder(what[:at]), what[at + 1 :]
    if KEYED.match(what):
        return home, what
    path, relative = home_folder(what), not what.startswith((".", "/", "~"))
    # A folder that happens to be called like a study and a scale is not a home.
    if relative and _is_named(what) and not Home(path).exists():
        return home, what
    return path, None


def _is_named(what: str) -> bool:
    """Whether this is the name of a sweep: `study/scale`, what was set besides, or its key."""
    return what.count("/") == 1 or KEYED.match(what) is not None


def _cells(file: Path, sweep: str) -> dict[tuple[str, str], Record]:
    content = _read_json(file)
    if content is None:
        hint = "the same `hdsweep run` again writes it anew"
        raise InputError(f"the stored table of `{sweep}` cannot be read", hint=hint)
    return {(cell["method"], cell["target"]): cell for cell in content["cells"]}


def _read_json(file: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content


def _pair(name: tuple[str, str], a: Record | None, b: Record | None) -> CellPair:
    before, after = a or {}, b or {}
    sides = (before, after)
    seeds = {
        str(s) for side in sides for part in ("values", "missing") for s in side.get(part, ())
    }

    def both(part: str, seed: str) -> tuple[Any, Any]:
        return before.get(part, {}).get(seed), after.get(part, {}).get(seed)

    pairs = {
        int(seed): SeedPair(
            *both("values", seed), keys=both("keys", seed), missing=both("missing", seed)
        )
        for seed in sorted(seeds, key=int)
    }
    return CellPair(*name, before, after, pairs)


def _cell_record(cell: CellPair) -> dict[str, Any]:
    return {
        "method": cell.method,
        "target": cell.target,
        **{
            name: {part: side.get(part) for part in ("metric", "mean", "std", "n")}
            for name, side in (("a", cell.a), ("b", cell.b))
        },
        "difference": cell.difference,
        "seeds": {
            str(seed): {
                "state": pair.state,
                "a": pair.a,
                "b": pair.b,
                "difference": pair.difference,
                "keys": list(pair.keys),
            }
            for seed, pair in cell.seeds.items()
        },
    }


def _shown(pair: SeedPair) -> str:
    words = {"identical": "=", "only_a": "only A", "only_b": "only B", "neither": "missing"}
    return words.get(pair.state) or _points(pair.difference)


def _points(difference: float | None) -> str:
    """Return a difference with as many digits as show that it is one."""
    return "" if difference is None else f"{difference:+.3g}" if difference else "="


def _mean(record: Record) -> str:
    if record.get("mean") is None:
        return "–"
    spread = f" ± {record['std']:.1f}" if record["std"] is not None else ""
    return f"{record['mean']:.1f}{spread} [{record['n']}]"
