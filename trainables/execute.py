"""Runs one spec to its end: resume, checkpoint, finish, and a result that is written last.

This is what a notebook, a test and the Tune adapter call. Called again after any interruption,
with the same places, it goes on from the newest whole checkpoint.
"""

import contextlib
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from trainables import checkpoint
from trainables.atomic_files import write_atomically
from trainables.code import code_hash, method_hash
from trainables.config import RunSpec
from trainables.energy import gpu_joules
from trainables.gpu_memory import begin_peak, peak_gb
from trainables.history import Point
from trainables.loop import Places, Run
from trainables.registry import load
from trainables.result import RESULT_FILE, Artifact, Result
from trainables.writer import Writer

# A machine is taken to be lost once in so long, as spot machines are in bad hours.
MEAN_SECONDS_TO_LOSS = 4 * 3600.0
LEAST_INTERVAL, MOST_INTERVAL = 10.0, 900.0  # Seconds between checkpoints.


@dataclass(frozen=True)
class Progress:
    """How far a run is. `points` are the values logged since the progress before."""

    update: int
    fraction: float
    done: bool
    points: tuple[Point, ...]


class Session:
    """One attempt at one run, advanced piece by piece by whoever owns the clock."""

    def __init__(
        self,
        spec: RunSpec,
        places: Places,
        *,
        attempt: int = 1,
        checkpoint_seconds: float | None = None,
        on_saved: Callable[[], None] = lambda: None,
        beside: bool | None = None,
        code: str | None = None,
        method_code: str | None = None,
    ) -> None:
        """Build the run and go on from its newest whole checkpoint, if there is one.

        Args:
            spec: what to train.
            places: where to read and write.
            attempt: number of this attempt, recorded in the result.
            checkpoint_seconds: wall time between checkpoints, chosen from what one costs by default;
                changes no result.
            on_saved: called after each checkpoint, and part of its cost.
            beside: whether checkpoints are written while the training goes on; by default on a GPU.
            code: hash of the code that this process was proven to run, for the record; that on disk
                by default.
            method_code: hash of the files of a task of the user's own, as the run was planned with.

        Raises:
            ValueError: if those files are others now.
        """
        task = load(
            spec.task, places.code
        )  # Its imports take seconds, once per process: no part of the run.
        self._code = {"hdsweep": code or code_hash(), **_method_code(spec, places, method_code)}
        self._started = time.monotonic()
        self._attempt, self._on_saved = attempt, on_saved
        self._fixed_interval = checkpoint_seconds
        self._saving_costs = 0.0
        on_gpu = not places.device.startswith("cpu")
        self._writer = Writer(self._written, beside=on_gpu if beside is None else beside)
        begin_peak(places.device)
        self.run: Run = task(spec, places)
        self._seconds_before = 0.0
        self._joules_before: float | None = 0.0
        self._joules_at_start = gpu_joules(places.device)
        self._reported = 0
        self._saved_at = time.monotonic()
        self._resumed_at = self._saved_update = 0
        state = checkpoint.load_newest(places.checkpoints)
        if state is None and places.continued is not None:
            state = _continued(spec, places.continued)
        if state is not None:
            self.resume(state)

    @property
    def seconds(self) -> float:
        """Time spent on the run so far, over all its attempts as far as checkpoints tell."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def joules(self) -> float | None:
        """Energy that the GPU used meanwhile, over all attempts; None if no driver tells."""
        now = gpu_joules(self.run.places.device)
        if now is None or self._joules_at_start is None or self._joules_before is None:
            return None
        return self._joules_before + now - self._joules_at_start

    @property
    def resumed_at(self) -> int:
        """The update that this attempt went on from; 0 from the start."""
        return self._resumed_at

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was taken.

        Raises:
            ValueError: if the checkpoint belongs to another run.
        """
        self.run.load_state_dict(state)
        self._seconds_before = float(state["seconds"])
        self._joules_before = state.get("joules")
        self._resumed_at = self._saved_update = self.run.update

    def advance_for(self, seconds: float) -> Progress:
        """Train for about `seconds`, at least one update, and say how far the run is.

        Raises:
            Diverged: if the loss is not finite.
        """
        end = time.monotonic() + seconds
        while not self.run.done:
            self.run.advance()
            now = time.monotonic()
            if now - self._saved_at >= self._interval and not self.run.done:
                self._begin_to_save()
            if now >= end:
                break
        return self._progress()

    def save(self) -> None:
        """Write a checkpoint, unless nothing happened since the last one; return when it is there.

        Raises:
            OSError: if it cannot be written.
        """
        self._begin_to_save()
        self._writer.wait()

    def give_up(self) -> None:
        """Return once nothing is written any more, by which another attempt may begin.

        What was begun before the run failed is kept, if it can be.
        """
        with contextlib.suppress(Exception):
            self._writer.wait()

    def _begin_to_save(self) -> None:
        if self.run.update != self._saved_update:
            began = time.monotonic()
            state = {**self.run.state_dict(), "seconds": self.seconds, "joules": self.joules}
            self._writer(self.run.update, state)
            # What the training waits for: a copy, where the rest is done beside it.
            self._saving_costs = time.monotonic() - began
            self._saved_update = self.run.update
        self._saved_at = time.monotonic()

    def _written(self, update: int, state: dict[str, Any]) -> None:
        checkpoint.save(self.run.places.checkpoints, update, state)
        self._on_saved()

    def finish(self) -> Result:
        """Write the artifacts, then `result.json`: whoever sees that file has a whole result."""
        self._writer.wait()
        run, folder = self.run, self.run.places.artifacts
        folder.mkdir(parents=True, exist_ok=True)
        if run.places.leave_state is not None:
            # Before `finish`, which may draw samples: a longer run draws none at this update.
            state = {**run.state_dict(), "seconds": self.seconds, "joules": self.joules}
            checkpoint.save(run.places.leave_state, run.update, state)
        metrics = run.finish()
        spec = run.spec.model_dump_json(indent=1)
        write_atomically(folder / "spec.json", spec.encode())
        result = Result(
            key=run.spec.key,
            metrics=metrics,
            updates=run.update,
            seconds=self.seconds,
            attempt=self._attempt,
            joules=self.joules,
            gpu_gb=peak_gb(run.places.device),
            resumed_at=self._resumed_at,
            micro_batch=run.places.micro_batch,
            history=tuple(run.history),
            artifacts=_manifest(folder),
            environment=environment(run.places.device),
            code=self._code,
        )
        result.write(folder)
        return result

    @property
    def _interval(self) -> float:
        if self._fixed_interval is not None:
            return self._fixed_interval
        return checkpoint_interval(self._saving_costs)

    def _progress(self) -> Progress:
        fresh = tuple(self.run.history[self._reported :])
        self._reported = len(self.run.history)
        return Progress(self.run.update, self.run.fraction, self.run.done, fresh)


def checkpoint_interval(cost: float, *, to_loss: float = MEAN_SECONDS_TO_LOSS) -> float:
    """Return the seconds between checkpoints that lose the least time in all.

    More of them cost more to write, fewer leave more to be done again; together they cost least at
    sqrt(2 cost to_loss). Source: J. W. Young, "A first order approximation to the optimum checkpoint
    interval", Communications of the ACM 17(9), 1974.

    Args:
        cost: seconds that a checkpoint takes; 0 while none was written yet.
        to_loss: mean seconds until a machine is lost.
    """
    return min(max(math.sqrt(2 * cost * to_loss), LEAST_INTERVAL), MOST_INTERVAL)


def execute(
    spec: RunSpec, places: Places, *, attempt: int = 1, checkpoint_seconds: float | None = None
) -> Result:
    """Run `spec` to its end in this process and return its result.

    Raises:
        Diverged: if the loss is not finite.
    """
    session = Session(spec, places, attempt=attempt, checkpoint_seconds=checkpoint_seconds)
    while not session.advance_for(math.inf).done:
        pass
    return session.finish()


def environment(device: str) -> dict[str, Any]:
    """Return the versions and the hardware that can change the bits of a result."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "node": platform.node(),
        **{name: version(name) for name in ("torch", "torchvision", "diffusers", "transformers")},
    }


def _method_code(spec: RunSpec, places: Places, planned: str | None) -> dict[str, str]:
    """Return the hash of the files of a task of the user's own, by a name; nothing for others.

    Raises:
        ValueError: if they are not those that were planned with.
    """
    found = None if places.code is None else method_hash(spec.task, places.code)
    if planned is not None and found != planned:
        raise ValueError(f"files of `{spec.task}` changed since it was planned: run again")
    return {} if found is None else {"method": found}


def _continued(spec: RunSpec, folder: Path) -> dict[str, Any] | None:
    """Return the state of the same run with fewer updates, as one of this run; None without it.

    Raises:
        ValueError: if the state is that of another run.
    """
    state = checkpoint.load_newest(folder)
    if state is None:
        return None
    shorter = spec.training.model_copy(update={"updates": state["update"]})
    if spec.model_copy(update={"training": shorter}).key != state["key"]:
        raise ValueError(
            f"{folder}: the state of run {state['key']}, which is not {spec.key} so far"
        )
    return {**state, "key": spec.key}


def _manifest(folder: Path) -> dict[str, Artifact]:
    """Return every artifact as it is now, by path below `folder`."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != RESULT_FILE)
    return {
        path.relative_to(folder).as_posix(): Artifact(
            sha256=checkpoint.sha256_of(path), bytes=path.stat().st_size
        )
        for path in paths
    }
