"""Does a task keep the promises of `trainables.loop.Run`? Tried out on a run of a few updates.

What the sweep relies on and a user's own task may get wrong: that it advances and ends, that a
checkpoint holds everything, and that its artifacts and metrics are whole.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from trainables import checkpoint
from trainables.config import RunSpec
from trainables.execute import Session
from trainables.loop import Places, Run
from trainables.networks.start import WEIGHTS_FILE
from trainables.result import RESULT_FILE

MOST_UPDATES = 50  # The specs of a check are to end well before.


@dataclass(frozen=True)
class Finding:
    """One promise, and whether it was kept."""

    promise: str
    kept: bool
    detail: str = ""


class Broken(Exception):
    """A promise was not kept, and those after it cannot be tried."""


def check_run(spec: RunSpec, places: Places, folder: Path) -> Iterator[Finding]:
    """Train a run twice, once straight and once interrupted, and yield what was found.

    Args:
        places: where data and pretraining lie; checkpoints and artifacts are put below `folder`.

    A task that raises ends the check with that as its last finding.
    """
    promise = "it is made from its spec and places"
    try:
        straight = _session(spec, places, folder / "straight")
        yield Finding(promise, kept=True)
        promise = "each advance is one update, the fraction grows within [0, 1], and it ends"
        updates = _trained(straight.run)
        yield Finding(promise, kept=True, detail=f"{updates} updates")
        promise = "a checkpoint can be written and read at any update"
        resumed = _interrupted(spec, places, folder / "resumed", updates)
        yield Finding(promise, kept=True)
        promise = "it ends with metrics that are finite numbers, and a result"
        first, second = _finished(straight), _finished(resumed)
        yield Finding(promise, kept=True, detail=_worded(first))
        promise = "it leaves what the table needs"
        _check_outcome(spec, first, straight.run.places.artifacts)
        yield Finding(promise, kept=True)
        promise = "interrupted and resumed, it ends with the same bits"
        _check_same(first, second, straight.run.places, resumed.run.places)
        yield Finding(promise, kept=True)
    except Exception as error:  # noqa: BLE001 - whatever a user's task raises is the finding
        told = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
        yield Finding(promise, kept=False, detail=told)


def _session(spec: RunSpec, places: Places, folder: Path) -> Session:
    own = replace(places, checkpoints=folder / "checkpoints", artifacts=folder / "artifacts")
    return Session(spec, own)


def _trained(run: Run) -> int:
    fraction = 0.0
    while not run.done:
        before = run.update
        run.advance()
        if run.update != before + 1:
            raise Broken(f"`update` went from {before} to {run.update} in one `advance`")
        if not fraction <= run.fraction <= 1:
            raise Broken(f"`fraction` went from {fraction} to {run.fraction}")
        fraction = run.fraction
        if run.update >= MOST_UPDATES:
            raise Broken(f"not `done` after {MOST_UPDATES} updates, for a spec of two")
    return run.update


def _interrupted(spec: RunSpec, places: Places, folder: Path, updates: int) -> Session:
    """Return a session that was left and gone on with after every update."""
    session = _session(spec, places, folder)
    for _ in range(updates):
        session.run.advance()
        session.save()
        session = _session(spec, places, folder)
        newest = checkpoint.load_newest(session.run.places.checkpoints)
        if newest is None or session.run.update != newest["update"]:
            raise Broken("a checkpoint that was just written is not the one that is read")
    if not session.run.done:
        raise Broken(f"resumed after each of {updates} updates, it is not `done` at their end")
    return session


def _finished(session: Session) -> Mapping[str, float]:
    metrics = session.finish().metrics
    bad = {name: value for name, value in metrics.items() if not math.isfinite(value)}
    if bad:
        raise Broken(f"metrics are not finite: {_worded(bad)}")
    if not (session.run.places.artifacts / RESULT_FILE).is_file():
        raise Broken(f"no {RESULT_FILE}")
    return metrics


def _check_outcome(spec: RunSpec, metrics: Mapping[str, float], artifacts: Path) -> None:
    if spec.stage == "fine-tuning":
        wanted = f"test_{spec.dataset.metric}"
        if wanted not in metrics:
            raise Broken(
                f"a fine-tuning returns the metric `{wanted}`; there are {_worded(metrics)}"
            )
    elif not (artifacts / WEIGHTS_FILE).is_file():
        raise Broken(f"a pretraining leaves {WEIGHTS_FILE}")


def _check_same(
    one: Mapping[str, float], other: Mapping[str, float], ours: Places, theirs: Places
) -> None:
    differing = [name for name in one if one[name] != other.get(name)]
    if differing:
        name = differing[0]
        raise Broken(f"metric `{name}` is {one[name]} straight and {other.get(name)} resumed")
    first, second = (places.artifacts / WEIGHTS_FILE for places in (ours, theirs))
    if not first.is_file():
        return
    straight, resumed = load_file(first), load_file(second)
    unequal = [n for n in straight if not np.array_equal(straight[n], resumed[n], equal_nan=True)]
    if unequal:
        raise Broken(f"weights differ: {', '.join(unequal[:3])}")


def _worded(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))
