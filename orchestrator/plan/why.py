"""Why each run of a plan will run, or will not: the sentence beside it in `hdsweep plan`.

Compares with what a store knows, given as plain values: keys of finished runs, causes of failures,
and the specs of runs that finished under keys the plan no longer has.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.plan.differences import Difference, SpecJson, differences
from orchestrator.plan.plan import Plan, PlannedRun

Kind = Literal["reused", "failed", "changed", "waits", "new"]

# With more differences than this, a stored run is another experiment and not this one, changed.
MOST_CHANGES = 6
MOST_SHOWN = 3


@dataclass(frozen=True)
class Reason:
    """What becomes of a run, and the sentence that says so."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return self.text


def reasons(
    plan: Plan,
    *,
    finished: Collection[str] = (),
    failures: Mapping[str, str] | None = None,
    past: Iterable[SpecJson] = (),
) -> dict[str, Reason]:
    """Return the reason of each run, by key, in the order of the plan.

    Args:
        finished: keys of the runs that are stored.
        failures: causes by the keys of runs that failed and did not finish since.
        past: specs of stored runs; those under other keys explain what changed.
    """
    by_identity: dict[tuple[object, ...], list[SpecJson]] = {}
    for spec in past:
        by_identity.setdefault(_identity(spec), []).append(spec)
    return {
        run.key: _reason(plan, run, finished, failures or {}, by_identity) for run in plan.runs
    }


def _reason(
    plan: Plan,
    run: PlannedRun,
    finished: Collection[str],
    failures: Mapping[str, str],
    past: Mapping[tuple[object, ...], list[SpecJson]],
) -> Reason:
    if run.key in finished:
        return Reason("reused", "reused")
    if run.key in failures:
        return Reason("failed", f"failed before: {failures[run.key]}")
    spec = run.spec.model_dump(mode="json")
    changes = _fewest_changes(spec, past.get(_identity(spec), []))
    if changes:
        return Reason("changed", f"changed: {_listed(changes)}")
    if run.needs is not None and run.needs not in finished:
        return Reason("waits", f"waits for {plan.by_key[run.needs].label}")
    return Reason("new", "new")


def _identity(spec: SpecJson) -> tuple[object, ...]:
    """Return what makes two specs versions of one run: the same cell, or the same pretraining."""
    start = spec.get("pretrained") or {}
    data = spec["dataset"]
    return (
        spec["task"],
        spec["network"]["family"],
        data["name"],
        data["image_size"],
        spec["seed"],
        start.get("task"),
    )


def _fewest_changes(spec: SpecJson, past: Iterable[SpecJson]) -> tuple[Difference, ...]:
    """Return the changes since the most similar stored spec; none if it is not similar enough."""
    changes = min((differences(before, spec) for before in past), key=len, default=())
    return changes if len(changes) <= MOST_CHANGES else ()


def _listed(changes: tuple[Difference, ...]) -> str:
    texts = [_in_words(each) for each in changes]
    more = f" and {len(texts) - MOST_SHOWN} more" if len(texts) > MOST_SHOWN else ""
    return ", ".join(texts[:MOST_SHOWN]) + more


def _in_words(change: Difference) -> str:
    # Hashes say that something is different, but not to people.
    if change.path == "pretrained.key":
        return "its pretraining"
    if change.path == "dataset.fingerprint":
        return "the images of its dataset"
    if change.path.endswith("backbone_sha256"):
        return "its ImageNet weights"
    return str(change)
