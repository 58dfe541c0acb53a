"""The one meeting of a run with Ray Tune: an ordinary class trainable around a `Session`.

A step trains for about `report_seconds` and reports how far the run is, so that every result is
also a sign of life. For a Ray user who never saw our command line:

    tune.Tuner(
        RunTrainable,
        param_space={
            "spec": {**spec.model_dump(mode="json"), "seed": tune.grid_search([0, 1, 2])},
            "dataset": "/data/datasets/ph2-256",
            "folder": "/data/runs",
        },
        tune_config=tune.TuneConfig(metric="test_jaccard", mode="max", reuse_actors=True),
    ).fit()

Without `report_seconds`, such a user gets one result per run, at its end, which has every metric: Tune
insists on the metric it was told of in each result.

What goes wrong in a run is reported, not raised: the actor lives on for the next run, and the cause
arrives whole. Only a killed process is an error to Tune.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import sys
import traceback
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

# Before torch: on a cluster that was joined, nobody set these for the workers. cuBLAS is deterministic
# only with a fixed workspace, and each run says itself how many threads it wants.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import ray
import torch
from ray._private.state import state as ray_state  # Nothing public says which nodes are drained.
from ray.tune import Trainable

from trainables import checkpoint
from trainables.config import RunSpec
from trainables.data.errors import DatasetError
from trainables.execute import Session
from trainables.loop import Diverged, Places
from trainables.notice import Notice, cloud_signs
from trainables.staging import stage

LONGEST_MESSAGE = 2000  # Characters; the whole of it is in the log of the attempt.


class RunTrainable(Trainable):  # type: ignore[misc]
    """Train the run that `config` describes.

    Config:
        spec: the fields of a `RunSpec`, which Tune may have sampled.
        dataset: folder of the prepared dataset.
        folder: where runs keep checkpoints and artifacts, below their key. Or, instead,
        places: the fields of a `Places`, each named by itself.
        pretrained, backbone: as in `Places`, where the spec needs them.
        home: folder or object store that machines share; places, log and stop_file are relative to it.
        attempt, report_seconds, checkpoint_seconds, log: optional.
        code, method_code: optional; as a `Session` takes them.
        stop_file: optional; while it exists, every result comes with a checkpoint, as it does once
            this machine is about to be taken away.

    Reports:
        key, update, fraction, finished, every logged value by its name, the final metrics at the end;
        `resumed_at`, the update that this attempt went on from; `node`, Ray's name of the machine;
        `points` as rows of (name, step, value, time in ms); `failure`, JSON, if the run failed.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Start with the first run."""
        self._session: Session | None = None
        self._failure: dict[str, str] | None = None
        shared = config.get("home") is not None
        self._notice = Notice((*cloud_signs(), _is_drained) if shared else ())
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leave one run, with a checkpoint if it is not finished, and begin another."""
        self._leave()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train for about `report_seconds`; the last step also writes the artifacts."""
        with self._logged(), self._failures_kept():
            if self._session is not None:
                result = self._advanced(self._session)
                print(_line(result))
                return result
        if self._session is not None:
            self._session.give_up()
        self._session = None
        self._let_go()
        _free_memory()
        failure = json.dumps(self._failure)
        return {"key": self._key, "node": _node(), "failure": failure, "done": True}

    def cleanup(self) -> None:
        """Keep what was trained, if the run is stopped before its end."""
        self._leave()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """Save for Tune's own checkpoints; the run keeps its own besides."""
        if self._session is not None:
            session = self._session
            state = {"seconds": session.seconds, "joules": session.joules}
            state |= session.run.state_dict()
            checkpoint.save(Path(checkpoint_dir), session.run.update, state)
        return None

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Go on from one of Tune's checkpoints."""
        state = checkpoint.load_newest(Path(checkpoint_dir))
        if self._session is not None and state is not None:
            self._session.resume(state)

    def _begin(self, config: dict[str, Any]) -> None:
        self._config, self._failure, self._session = config, None, None
        self._key = ""  # Unknown while the spec may still prove wrong.
        self._staging = stage(config)
        with self._logged(), self._failures_kept():
            spec = RunSpec.model_validate(config["spec"])
            self._key = spec.key
            self._session = Session(
                spec,
                self._places(spec),
                attempt=config.get("attempt", 1),
                checkpoint_seconds=config.get("checkpoint_seconds"),
                on_saved=self._staging.saved,
                code=config.get("code"),
                method_code=config.get("method_code"),
            )
            print(_title(spec, self._session, config.get("attempt", 1)))

    def _places(self, spec: RunSpec) -> Places:
        """Return where the run reads and writes: named one by one, or by a folder for all runs."""
        if "places" in self._config:
            return self._staging.places(
                spec, _device(self._config["places"].get("device", "auto"))
            )
        return _below(self._config, spec.key)

    def _advanced(self, session: Session) -> dict[str, Any]:
        progress = session.advance_for(self._config.get("report_seconds", math.inf))
        if not progress.done and (self._notice.given or self._staging.stopping()):
            session.save()  # Once Tune stops the trial, there may be no time left for it.
        report = {
            "key": self._key,
            "node": _node(),
            "update": progress.update,
            "resumed_at": session.resumed_at,
            "fraction": progress.fraction,
            "points": [[p.name, p.step, p.value, p.time_ms] for p in progress.points],
            # Tune sets `done` itself when it stops a trial early; this one is ours.
            "finished": progress.done,
            "done": progress.done,
            **{point.name: point.value for point in session.run.history},
        }
        if progress.done:
            report |= session.finish().metrics
            self._staging.finished()
            self._session = None
            self._let_go()
        return report

    def _leave(self) -> None:
        if self._session is not None:
            with self._logged(), self._failures_kept():
                self._session.save()
            self._let_go()
        self._session = None

    def _let_go(self) -> None:
        """Keep what the run printed; what cannot be kept is not worth failing for."""
        with contextlib.suppress(OSError):
            self._staging.let_go()

    @contextlib.contextmanager
    def _failures_kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the run's and not ours
            self._failure = _described(error)
            traceback.print_exc()

    @contextlib.contextmanager
    def _logged(self) -> Iterator[None]:
        """Send what the run prints to the log of its attempt."""
        path = self._staging.log()
        if path is None:
            yield
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with (
            os.fdopen(descriptor, "a", buffering=1, encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            yield
            sys.stdout.flush()


def _title(spec: RunSpec, session: Session, attempt: int) -> str:
    """Return the first line of the log of an attempt."""
    device = "a GPU" if torch.cuda.is_available() else "the CPU"
    start = f", from update {session.resumed_at}" if session.resumed_at else ""
    return (
        f"{datetime.now():%Y-%m-%d %H:%M:%S} attempt {attempt} at run {spec.key}: {spec.task} of "
        f"{spec.network.family} on {spec.dataset.name}, seed {spec.seed}; {_node()} with {device}{start}"
    )


def _line(result: dict[str, Any]) -> str:
    """Return a line of the log: how far a run is, and the values that it told of."""
    values = {
        name: value
        for name, value in result.items()
        if isinstance(value, float) and name not in ("fraction", "seconds")
    }
    told = "".join(f" {name} {value:.6g}" for name, value in values.items())
    how = "finished" if result.get("finished") else f"{result.get('fraction', 0.0):.0%}"
    return f"{datetime.now():%Y-%m-%d %H:%M:%S} update {result.get('update', 0)} {how}{told}"


def _below(config: dict[str, Any], key: str) -> Places:
    """Return the places of a run below a folder for all runs."""
    folder = Path(config["folder"]) / key
    pretrained, backbone = (config.get(name) for name in ("pretrained", "backbone"))
    return Places(
        dataset=Path(config["dataset"]),
        checkpoints=folder / "checkpoints",
        artifacts=folder / "artifacts",
        pretrained=None if pretrained is None else Path(pretrained),
        backbone=None if backbone is None else Path(backbone),
        device=_device("auto"),
    )


def _device(name: str) -> str:
    """Return the device that `auto` stands for on this machine: a GPU if Ray granted one."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _node() -> str:
    """Return Ray's name of this machine; empty outside a cluster."""
    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""


def _is_drained() -> bool:
    """Return whether Ray was told that this machine is about to be taken away."""
    return ray.is_initialized() and _node() in ray_state.get_draining_nodes()


def _free_memory() -> None:
    """Give back what a failed run held: the next one, or the same with less, needs it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _described(error: Exception) -> dict[str, str]:
    return {
        "kind": _kind(error),
        "message": f"{type(error).__name__}: {error}"[:LONGEST_MESSAGE],
        "traceback": traceback.format_exc(),
    }


def _kind(error: Exception) -> str:
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, DatasetError):
        return "bad_data"
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "out_of_memory"
    return "error"
