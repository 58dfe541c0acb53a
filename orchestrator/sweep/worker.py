"""What runs in Ray's workers: a `RunTrainable` of the driver's code, which it proves before it trains.

This module is sent to the workers as it is, with `pinned` and `worker_signals`, and imports nothing of ours before it has
seen to it that it is what the driver has: whatever lies in their way there, old code too, cannot skip
that.
"""

import json
import signal
import sys
import traceback
from collections.abc import Collection, Mapping
from typing import Any

from ray import cloudpickle
from ray.tune import PlacementGroupFactory, Trainable

from orchestrator import PLACES, pinned
from orchestrator.pinned import pin
from orchestrator.process.stopping import ASKING
from orchestrator.sweep import worker_signals
from orchestrator.sweep.worker_signals import take_and_do_nothing

KIND = "other_code"
"""Of the failures that are told of."""


class ProvenTrainable(Trainable):  # type: ignore[misc]
    """A `RunTrainable` that is made, and goes on, only with the driver's code.

    Reports what a `RunTrainable` does. Other code than the driver's is a failure of the kind `KIND`.
    """

    places: Mapping[str, str]
    """The folder of each of our packages on the driver's machine."""
    manifest: Mapping[str, str]
    """That of the driver, as `trainables.code.manifest` returns it."""
    code: str
    """The hash of it all, for the record."""
    asking: Collection[signal.Signals]
    """Those that ask a driver to stop."""

    def setup(self, config: dict[str, Any]) -> None:
        """Import our code from where the driver did, and begin the first run."""
        self._run: Any = None
        self._failure: dict[str, str] = {}
        take_and_do_nothing(self.asking)
        pin(self.places)
        self._begin(config, first=True)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leave one run and begin another."""
        self._begin(new_config, first=self._run is None)
        return True

    def step(self) -> dict[str, Any]:
        """Train for a while, or tell why not."""
        if self._failure:
            return {"node": _node(), "failure": json.dumps(self._failure), "done": True}
        report: dict[str, Any] = self._run.step()
        self._guard()
        return self.step() if self._failure else report

    def cleanup(self) -> None:
        """Keep what was trained, if the run is stopped before its end."""
        if self._run is not None:
            self._run.cleanup()

    def _begin(self, config: dict[str, Any], *, first: bool) -> None:
        """Begin a run, if what is imported before and for it is the driver's."""
        self._failure = {}
        try:
            from trainables.code import Proof
            from trainables.tune_adapter import RunTrainable

            if first:
                self._proof = Proof(self.manifest)
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being imported
            self._failure = _not_imported(error)
            return
        self._guard()
        if self._failure:
            return
        told = {**config, "code": self.code}
        if first:
            self._run = RunTrainable.__new__(RunTrainable)
            self._run.setup(told)
        else:
            self._run.reset_config(told)
        self._guard()

    def _guard(self) -> None:
        """Refuse to go on if what was imported meanwhile is not the driver's."""
        from trainables.code import OtherCodeError

        try:
            self._proof.check()
        except OtherCodeError as error:
            self._failure = _refused(f"{error}, in {_root()}")


def _refused(why: str) -> dict[str, str]:
    return {"kind": KIND, "message": why, "traceback": ""}


def _not_imported(error: Exception) -> dict[str, str]:
    """Return why our code cannot be imported: it is not there, or too old, or a library fails."""
    if isinstance(error, ImportError) and (error.name or "").startswith("trainables"):
        return _refused(f"{error.name} of the driver cannot be imported from {_root()}")
    told = f"{type(error).__name__}: {error}"
    return {"kind": "error", "message": told, "traceback": traceback.format_exc()}


def _root() -> str:
    """Return where hdsweep is here, for people."""
    found = sys.modules.get("trainables")
    return str(next(iter(getattr(found, "__path__", ["this environment"]))))


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def slots(config: dict[str, Any]) -> PlacementGroupFactory:
    """Return what a trial takes up, and which nodes it is kept off, as the driver decided."""
    bundle, off = config["slots"]
    return PlacementGroupFactory([bundle], **({"bundle_label_selector": [off]} if off else {}))


def proven_trainable() -> type[ProvenTrainable]:
    """Return the trainable to give to Tune, with what the driver has to be held to."""
    from trainables.code import code_hash, manifest

    for module in (sys.modules[__name__], pinned, worker_signals):
        cloudpickle.register_pickle_by_value(module)
    told = {
        "places": dict(PLACES),
        "manifest": dict(manifest()),
        "code": code_hash(),
        "asking": ASKING,
    }
    return type("RunTrainable", (ProvenTrainable,), told)
