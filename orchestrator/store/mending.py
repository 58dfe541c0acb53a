"""What people changed in MLflow, held against what the folders say: tags put right, runs brought back.

The folder of a finished run holds its tags and values, as they were when it was published. So a tag that
somebody edited or removed in the UI is known, and a run whose tags are spoilt is still the run that it was; a metric
that is logged to a finished run is its author's, and no table goes by it.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from orchestrator.process.stopping import Say
from orchestrator.store.book import MOST_NAMED, Book, writable
from orchestrator.store.home.attempts import LABELS
from orchestrator.store.home.run_folders import RunFolders
from orchestrator.store.tags import ATTEMPT, KEY, KIND, KINDS, OURS, PARENT
from orchestrator.store.tracking.database import Known, Runs
from orchestrator.wording import in_short
from trainables.result import RESULT_FILE, Result


def number_of(known: Known) -> int:
    """Return the number of the last attempt at a run; 0 if somebody made something else of it."""
    written = known.tags.get(ATTEMPT, "")
    return int(written) if written.isdecimal() else 0


def as_stored(known: Known, folders: RunFolders, *, every: bool) -> Known:
    """Return a run with the tags that its folder has for it; others are left as they are.

    Args:
        every: look into the folder of every finished run, and not of those only whose tags make no
            sense. Whoever only reads has no time for that, and counts as finished what can be read.
    """
    finished, tags = known.status == "FINISHED", known.tags
    is_run = tags.get(KIND) == "run" and KEY in tags and number_of(known) > 0
    spoilt = not is_run and (tags.get(KIND) not in KINDS or tags[KIND] == "run")
    folder = folders.artifacts_of(known.run_id)
    if spoilt or (finished and every and is_run):
        labels = _labels(folder / LABELS)
        known = replace(known, tags={**tags, **labels})
    if finished and _is_anothers(known):
        known = replace(known, metrics=_values(folder) or known.metrics)
    if (
        finished
        and not every
        and known.tags.get(KIND) == "run"
        and not (folder / RESULT_FILE).is_file()
    ):
        return replace(known, status="KILLED")  # Somebody ended it, or removed its artifacts.
    return known


def _is_anothers(known: Known) -> bool:
    """Whether somebody logged metrics to a run; to a sweep we do, also after its end, when its table changes."""
    return known.others_logged and known.tags.get(KIND) == "run"


def _values(folder: Path) -> Mapping[str, float]:
    """Return the last value of each metric of a result; none if it cannot be read."""
    with suppress(OSError, ValueError):
        return Result.read(folder).last_values
    return {}


def _labels(file: Path) -> Mapping[str, str]:
    with suppress(OSError, ValueError, KeyError, AttributeError):
        found = json.loads(file.read_text(encoding="utf-8"))["labels"]
        return {name: str(value) for name, value in found.items()}
    return {}


def bring_back(found: Runs, kept: Sequence[dict[str, Known]], book: Book, tell: Say) -> None:
    """Bring every run back in MLflow that a driver keeps, and its tags and status as they were.

    Args:
        found: what is there.
        kept: what should be, by name; what runs are now is put in here.
        tell: takes a line for each kind of thing that was found.
    """
    there = {run.run_id: run for run in found.known}
    everything = [(where, name) for where in kept for name in where]
    deleted = [where[name] for where, name in everything if where[name].run_id in found.deleted]
    changed = [each for each in everything if _differs(each[0][each[1]], there)]
    away = [
        each for each in everything if each[0][each[1]].run_id not in there.keys() | found.deleted
    ]
    # Asked one by one: to make all runs again because a list was short would be worse than any loss.
    gone = [(where, name) for where, name in away if book.is_gone(where[name])]
    book.restore(deleted)
    for where, name in gone:
        if book.is_gone(where[name]):  # And was not made again with the one above it.
            where[name] = book.make_again(where[name])
    for where, name in changed:
        known = where[name]
        now = there[known.run_id]
        status = known.status if known.status != now.status else None
        where[name] = book.write(known, tags=_changes(known, now), status=status)
    if gone:
        named = _named(gone)
        tell(f"{named} had been deleted in MLflow for good: made again from what is stored")
    if changed:
        tell(f"{_named(changed)} had been changed in MLflow in the meantime: as stored again")


def tell_of_others(kept: Sequence[dict[str, Known]], tell: Say) -> None:
    """Tell to which runs somebody logged metrics."""
    found = [(where, name) for where in kept for name in where if _is_anothers(where[name])]
    if found:
        tell(f"metrics of others were logged to {_named(found)}: tables go by what is stored")


def _named(found: Sequence[tuple[dict[str, Known], str]]) -> str:
    return in_short([f"`{where[name].name}`" for where, name in found], most=MOST_NAMED)


def _differs(known: Known, there: Mapping[str, Known]) -> bool:
    now = there.get(known.run_id)
    return now is not None and (known.status != now.status or bool(_changes(known, now)))


def _changes(known: Known, now: Known) -> dict[str, str]:
    """Return our tags of a run that have another value now, or none."""
    return {
        name: value
        for name, value in known.tags.items()
        if (name.startswith(OURS) or name == PARENT) and now.tags.get(name) != writable(value)
    }
