"""`hdsweep reproduce`: train a stored run again from what is stored, and hold the two together.

In a scratch folder, in this process, without Ray: whatever the sweep did besides, the same spec from the
same inputs must give the same bits on the same kind of machine.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import InputError
from orchestrator.plan.backbones import BACKBONES, checksum, find_weights
from orchestrator.plan.plan import Cell, Plan
from orchestrator.store.home.home import Home
from orchestrator.study.checking import flat
from trainables.config import RunSpec
from trainables.data.prepared import DATA_FILE, DESCRIPTION_FILE, read_prepared
from trainables.result import Result

if TYPE_CHECKING:
    from orchestrator.store.store import Store

WEIGHTS = "weights.safetensors"
CODE = ("hdsweep", "commit", "changes", "code")


@dataclass(frozen=True)
class Reproduced:
    """A run, trained again."""

    key: str
    label: str
    drift: Mapping[str, tuple[object, object]]
    """What differs, by name: as stored, and now; empty if every metric and weight is the same."""
    environment: Mapping[str, tuple[object, object]]
    """Versions and hardware that differ: the usual cause of drift."""
    metrics: Mapping[str, float]

    @property
    def identical(self) -> bool:
        """Whether nothing differs, to the last bit."""
        return not self.drift


def keys_of(what: str, store: "Store", plans: Mapping[str, Plan]) -> list[str]:
    """Return the keys of the runs that a user means, pretrainings first.

    Args:
        what: a key, a cell as `method/target/seed`, or a trial of a search as `search/number`.
        plans: of the sweeps that a cell is looked for in, by name.

    Raises:
        InputError: if nothing stored is meant by it.
    """
    finished = store.finished()
    if what in finished:
        return [what]
    parts = what.split("/")
    if len(parts) == 3 and parts[2].isdigit():
        return [_key_of_cell(what, finished, plans)]
    if len(parts) == 2 and parts[1].isdigit():
        keys = store.below_group(f"search/{what}")
        if keys:
            return sorted(
                keys, key=lambda key: finished[key].tags["hdsweep.stage"] != "pretraining"
            )
    raise InputError(
        f"nothing stored is called `{what}`",
        hint="a key of `hdsweep plan --json`, a cell such as hybrid_ft/ph2/1, or SEARCH/TRIAL",
    )


def _key_of_cell(what: str, finished: Mapping[str, Any], plans: Mapping[str, Plan]) -> str:
    """Return the key of the run behind a cell, which must be one and the same in all sweeps that have it."""
    method, target, seed = what.split("/")
    keys = {
        name: plan.table.get(Cell(method, _target(target, plan), int(seed)))
        for name, plan in plans.items()
    }
    there = {name: key for name, key in keys.items() if key is not None}
    listed = "; ".join(f"`{name}`" for name in there or plans) or "no sweep"
    if not there:
        raise InputError(f"no sweep has a cell `{what}`", hint=f"looked into {listed}")
    done = {name: key for name, key in there.items() if key in finished}
    if not done:
        hint = f"its key would be {', '.join(dict.fromkeys(there.values()))}"
        raise InputError(f"the cell `{what}` is not finished in {listed}", hint=hint)
    if len(set(done.values())) > 1:
        named = "; ".join(f"`{name}`" for name in done)
        raise InputError(
            f"the cell `{what}` is another run in each of {named}",
            hint="--study with the name of one says which",
        )
    return next(iter(done.values()))


def _target(written: str, plan: Plan) -> str:
    """Return the target that is meant: `PH2`, as the paper writes it, is `ph2`."""
    alike = [target for target in plan.targets if target.casefold() == written.casefold()]
    return alike[0] if len(alike) == 1 else written


def made_of(key: str, store: "Store") -> dict[str, str]:
    """Return everything that made a stored number, by name: settings, data, code, hardware, start.

    What is in the spec decides the bits; the rest may.
    """
    stored = store.finished()[key]
    spec = json.loads((stored.artifacts / "spec.json").read_text(encoding="utf-8"))
    result = Result.read(stored.artifacts)
    code = {k: stored.tags[f"hdsweep.{k}"] for k in CODE if f"hdsweep.{k}" in stored.tags}
    metrics = {name: f"{value:.17g}" for name, value in result.metrics.items()}
    ran = {"updates": result.updates, "seconds": round(result.seconds, 1)}
    found = {**metrics, **ran, **code, **result.environment, **flat(spec)}
    return {name: str(value) for name, value in found.items()}


def reproduce(
    key: str,
    store: "Store",
    home: Home,
    folder: Path,
    *,
    from_scratch: bool = False,
    code: Path | None = None,
) -> Iterator[Reproduced]:
    """Train a stored run again and yield what came of it.

    Args:
        folder: empty; checkpoints and artifacts are put there.
        from_scratch: train the pretraining that it starts from again too, and start from that.
        code: folder of the file of a task of the user's own.

    Raises:
        InputError: if the dataset, the weights or the pretraining that it started from are gone.
    """
    from trainables.execute import execute
    from trainables.loop import Places

    stored = store.finished()[key]
    spec = RunSpec.model_validate_json((stored.artifacts / "spec.json").read_bytes())
    if "@" in spec.task and code is None:
        raise InputError(
            f"the task `{spec.task}` is in a file of yours",
            hint="name a cell, and the study that names the file with --study",
        )
    pretrained = None
    if spec.pretrained is not None:
        if from_scratch:
            yield from reproduce(spec.pretrained.key, store, home, folder, code=code)
            pretrained = folder / spec.pretrained.key / "artifacts"
        else:
            pretrained = _stored_pretraining(spec.pretrained.key, store)
            home.bring(pretrained / WEIGHTS)
    before = Result.read(stored.artifacts)
    places = Places(
        dataset=_dataset(spec, home),
        checkpoints=folder / key / "checkpoints",
        artifacts=folder / key / "artifacts",
        pretrained=pretrained,
        backbone=_backbone(spec, home),
        code=code,
        device=_device(),
        keep_weights=WEIGHTS in before.artifacts,
        micro_batch=before.micro_batch,
    )
    again = execute(spec, places)
    yield Reproduced(
        key=key,
        label=stored.tags.get("mlflow.runName", key),
        drift=_drift(before, again.metrics, places.artifacts),
        environment=_environment(before, places.artifacts),
        metrics=again.metrics,
    )


def _environment(before: Result, artifacts: Path) -> dict[str, tuple[object, object]]:
    """Return what differs in versions, hardware and code; of the code, where that was recorded."""
    now = Result.read(artifacts)
    found = _differences(before.environment, now.environment)
    if before.code is not None and now.code is not None:
        ours = [{f"code of {k}": v for k, v in code.items()} for code in (before.code, now.code)]
        found |= _differences(*ours)
    return found


def _drift(
    before: Result, metrics: Mapping[str, float], now: Path
) -> dict[str, tuple[object, object]]:
    drift = _differences(before.metrics, metrics)
    if WEIGHTS in before.artifacts:
        # What was stored once is held to its own manifest, whatever became of the file since.
        theirs = before.artifacts[WEIGHTS].sha256
        ours = _sha256(now / WEIGHTS)
        if ours != theirs:
            drift[WEIGHTS] = (theirs[:16], ours[:16])
    return drift


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, tuple[object, object]]:
    names = dict.fromkeys([*before, *now])
    return {n: (before.get(n), now.get(n)) for n in names if before.get(n) != now.get(n)}


def _stored_pretraining(key: str, store: "Store") -> Path:
    finished = store.finished()
    if key not in finished:
        raise InputError(
            f"the pretraining {key} is not stored", hint="--from-scratch trains it too"
        )
    return finished[key].artifacts


def _dataset(spec: RunSpec, home: Home) -> Path:
    for description in sorted(home.datasets.glob(f"*/{DESCRIPTION_FILE}")):
        prepared = read_prepared(description.parent)
        if prepared is not None and prepared.fingerprint == spec.dataset.fingerprint:
            home.bring(description.with_name(DATA_FILE))
            return description.parent
    raise InputError(
        f"the dataset `{spec.dataset.name}` with the fingerprint {spec.dataset.fingerprint[:16]} "
        "is not in this home any more",
        hint=f"prepare `{spec.dataset.name}` again from the same release",
    )


def _backbone(spec: RunSpec, home: Home) -> Path | None:
    wanted = getattr(spec.network, "backbone_sha256", None)
    if wanted is None or spec.pretrained is not None:
        return None
    name = BACKBONES[spec.network.family].name
    path = find_weights(home.path, name)
    if path is None or checksum(path) != wanted:
        raise InputError(f"the ImageNet weights {name} that it started from are gone")
    return path


def _device() -> str:
    from orchestrator.cluster.hardware import gpus

    return "cuda" if gpus() else "cpu"
