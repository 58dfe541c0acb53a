"""What a run reads and writes, where its machine has it: in place, copied, or carried both ways.

* `Staging`: the home lies on this machine's own disk, and everything is in place.
* `Copied`: many machines share the home as a folder. What many runs read is copied once per machine
  (`node_cache`); what a run writes goes straight into the home.
* `Carried`: the home lies in an object store. What a run writes lies on this machine, and is carried to
  the store with every checkpoint and at the end.

Wherever a run is put, it finds its newest whole checkpoint, and goes on from there.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables import checkpoint
from trainables.config import RunSpec
from trainables.loop import Places
from trainables.node_cache import NodeCache
from trainables.result import RESULT_FILE
from trainables.storage import Storage, cache_folder, is_remote

NOT_PATHS = ("device", "keep_weights", "micro_batch")  # Of the fields of a `Places`.
LOOK_SECONDS = 5.0  # Between two looks into an object store for a sign to stop.


def stage(config: Mapping[str, Any]) -> "Staging":
    """Return the way in which a run reads and writes.

    Args:
        config: of a `RunTrainable`: `places`, and where the driver names them `home`, `log`, `stop_file`.
    """
    home = config.get("home")
    if home is None:
        return Staging(config)
    return (Carried if is_remote(home) else Copied)(config, Storage(home))


class Staging:
    """The places of one attempt at one run, all on this machine."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._named: Mapping[str, Any] = config.get("places", {})
        self._log_name: str | None = config.get("log")
        self._stop_name: str | None = config.get("stop_file")

    def log(self) -> Path | None:
        """Return the file that takes what the run prints."""
        return None if self._log_name is None else self.written(self._log_name)

    def places(self, spec: RunSpec, device: str) -> Places:
        """Return where everything is, after what the run reads was brought here.

        Raises:
            DatasetError: if the dataset is not in the home, or is another than was planned with.
            DamagedCopyError: if weights are not those that the run was planned with.
            OSError: if the home is not to be reached, or the disk of this machine is full.
        """
        found = {name: self._place(spec, name, value) for name, value in self._named.items()}
        return Places(**{**found, "device": device})

    def written(self, name: str) -> Path:
        """Return where on this machine a file or folder is that the run writes."""
        return Path(name)

    def read(self, spec: RunSpec, field: str, name: str) -> Path:  # noqa: ARG002
        """Return where on this machine something is that a run reads, by its field of `Places`."""
        return Path(name)

    def stopping(self) -> bool:
        """Return whether somebody asked the sweep to stop."""
        return self._stop_name is not None and self.written(self._stop_name).exists()

    def saved(self) -> None:
        """Keep a checkpoint that was just written, should this machine be lost."""

    def finished(self) -> None:
        """Keep what the run left: artifacts, and `result.json` after them."""

    def let_go(self) -> None:
        """Keep what the run printed, and nothing else on this machine."""

    def _place(self, spec: RunSpec, field: str, value: Any) -> Any:
        if value is None or field in NOT_PATHS:
            return value
        if field in ("checkpoints", "artifacts", "leave_state"):
            return self.written(value)
        return self.read(spec, field, value)


class Copied(Staging):
    """A home in a folder that machines share: names of places are relative to it."""

    def __init__(self, config: Mapping[str, Any], home: Storage) -> None:
        super().__init__(config)
        self._home = home
        self._cache = NodeCache(cache_folder(), home)

    def written(self, name: str) -> Path:
        return Path(self._home.place) / name

    def read(self, spec: RunSpec, field: str, name: str) -> Path:
        if field == "dataset":
            return self._cache.dataset(name, spec.dataset.fingerprint)
        if field == "pretrained" and spec.pretrained is not None:
            return self._cache.pretrained(name, spec.pretrained.key)
        sha256 = getattr(spec.network, "backbone_sha256", None)
        if field == "backbone" and sha256 is not None:
            return self._cache.weights(name, sha256)
        return self.written(name)  # Read by one run, or the user's own folder.


class Carried(Copied):
    """A home in an object store: what is written lies below the machine's cache meanwhile."""

    def __init__(self, config: Mapping[str, Any], home: Storage) -> None:
        super().__init__(config, home)
        key = Path(self._named["checkpoints"]).name
        self._folder = self._cache.folder / "runs" / key
        self._looked_at, self._asked_to_stop = 0.0, False

    def places(self, spec: RunSpec, device: str) -> Places:
        name = self._named["checkpoints"]
        _bring_checkpoint(self._home, name, self.written(name))
        return super().places(spec, device)

    def written(self, name: str) -> Path:
        return self._folder / name

    def read(self, spec: RunSpec, field: str, name: str) -> Path:
        if field == "code":
            return self._cache.code(name)
        if field == "continued":
            folder = self.written(name)
            _bring_checkpoint(self._home, name, folder)
            return folder
        return super().read(spec, field, name)

    def stopping(self) -> bool:
        if self._stop_name is not None and time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._asked_to_stop = self._home.one(self._stop_name) is not None
            self._looked_at = time.monotonic()
        return self._asked_to_stop

    def saved(self) -> None:
        name = self._named["checkpoints"]
        _carry_checkpoints(self._home, self.written(name), name)
        self._carry_log()

    def finished(self) -> None:
        state = self._named.get("leave_state")
        if state is not None:
            _carry_checkpoints(self._home, self.written(state), state)
        self._carry_log()
        artifacts = self._named["artifacts"]
        self._home.upload_folder(self.written(artifacts), artifacts, last=RESULT_FILE)

    def let_go(self) -> None:
        self._carry_log()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _carry_log(self) -> None:
        log = self.log()
        if log is not None and self._log_name is not None and log.is_file():
            self._home.upload(log, self._log_name)


def _bring_checkpoint(home: Storage, name: str, folder: Path) -> None:
    """Bring the newest whole checkpoint of a folder in the home, unless it is here already."""
    there = {each.rpartition("/")[2] for each in home.all(name)}
    here = checkpoint.saved_updates(folder)
    for update in sorted(checkpoint.updates_in(there), reverse=True):
        if update in here and checkpoint.is_whole(folder, update):
            return
        for file in checkpoint.files_of(update):
            if file in there:
                home.download(f"{name}/{file}", folder / file)
        if checkpoint.is_whole(folder, update):
            return


def _carry_checkpoints(home: Storage, folder: Path, name: str) -> None:
    """Carry the checkpoints of a folder to the home, and remove there what is not here any more."""
    there = {each.rpartition("/")[2] for each in home.all(name)}
    here = checkpoint.saved_updates(folder)
    for update in here:
        payload, record = checkpoint.files_of(update)
        if record not in there:
            # The record last: without it, a payload does not exist.
            home.upload(folder / payload, f"{name}/{payload}")
            home.upload(folder / record, f"{name}/{record}")
    for update in checkpoint.updates_in(there):
        if update < min(here, default=0):
            for file in reversed(checkpoint.files_of(update)):
                home.remove(f"{name}/{file}")
