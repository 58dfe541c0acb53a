"""Before an hour is spent on a cluster: does every node see the same, and have what runs need?

Each node is asked by a task of its own: whether it reads what the driver wrote to the home and can write
there, which versions it has, what time it is, how much room for copies, which GPUs, which datasets, what of
its environment computes.
"""

import contextlib
import importlib.metadata
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.cluster.compilers import answers
from orchestrator.cluster.hardware import gpus
from orchestrator.errors import InputError
from orchestrator.process.environment import CHANGE_NUMBERS, of_numbers
from orchestrator.provenance import provenance
from trainables.data.prepared import DATA_FILE, DESCRIPTION_FILE, Prepared
from trainables.storage import Storage, cache_folder

FOLDER = "preflight"
ANSWER_SECONDS = 120.0  # For a node to start a worker and answer.
SKEW_SECONDS = 30.0  # Leases and signatures of requests do not stand much more.
SPARE_BYTES = 2**30  # For checkpoints and logs, beside the copies of datasets.

# What can change the bits of a result, or keeps nodes from understanding each other.
PACKAGES = ("hdsweep", "ray", "torch", "torchvision", "diffusers", "transformers", "numpy")


@dataclass(frozen=True)
class Asked:
    """What a node is asked; sent to it."""

    home: str
    """Folder or address of the home."""
    token: str
    """Content of the file that the driver wrote."""
    datasets: Mapping[str, str]
    """Fingerprint by name of the folder below the home's datasets."""


@dataclass(frozen=True)
class Seen:
    """What a node answers."""

    seconds: float
    """Unix time there."""
    versions: Mapping[str, str]
    trouble: str
    """Why the home could not be read and written there; empty if it could."""
    datasets: Mapping[str, str]
    """Fingerprints, of those that are there."""
    room_bytes: int
    """Free on the disk that copies of datasets go to."""
    gpus: int
    """As its driver lists them."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What changes numbers, as of `environment.of_numbers`."""
    cannot_compile: Mapping[str, str] = field(default_factory=dict)
    """Why not, by way and kind of device."""


@dataclass(frozen=True)
class NodeReport:
    """One node, and what is wrong with it."""

    name: str
    problems: tuple[str, ...]


def inspect_nodes(
    home: str, datasets: Mapping[str, str], compiled: Collection[str] = ()
) -> list[NodeReport]:
    """Ask every node of the cluster that was joined, and return what is wrong with each.

    Args:
        home: folder or address of the home, which the driver can write to.
        datasets: fingerprint by name of the folder below the home's datasets.
        compiled: values of `compute.compile` of the runs to come.
    """
    import ray

    storage = Storage(home)
    asked = Asked(home, secrets.token_hex(16), datasets)
    storage.write(f"{FOLDER}/{asked.token}", asked.token.encode())
    needed = _bytes_of(storage, datasets)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    # Runs are put on GPUs as soon as one node has any.
    kind = "gpu" if any(node["Resources"].get("GPU") for node in nodes) else "cpu"
    ways = [f"{way}/{kind}" for way in sorted(compiled)]
    try:
        with ThreadPoolExecutor(max(len(nodes), 1)) as pool:
            found = list(pool.map(lambda node: _inspect(node, asked, needed, ways), nodes))
    finally:
        with contextlib.suppress(OSError):
            storage.remove_below(FOLDER)
    return sorted(found, key=lambda report: report.name)


def require_alike(home: str, datasets: Mapping[str, str], compiled: Collection[str] = ()) -> None:
    """Raise an InputError that names every node that cannot take part, and why."""
    bad = [each for each in inspect_nodes(home, datasets, compiled) if each.problems]
    lines = [f"node {report.name}: {problem}" for report in bad for problem in report.problems]
    if lines:
        hint = "`hdsweep doctor --address auto` looks again; `ray stop` there leaves a node out"
        raise InputError("\n".join(lines), hint=hint)


def look(asked: Asked) -> Seen:
    """Answer for this machine."""
    storage = Storage(asked.home)
    there: dict[str, str] = {}
    try:
        trouble = _touch(storage, asked.token)
        there = {} if trouble else dict(_fingerprints(storage, asked.datasets))
    except OSError as error:
        trouble = f"the home cannot be used: {error}"
    return Seen(
        seconds=time.time(),
        versions=versions(),
        trouble=trouble,
        datasets=there,
        room_bytes=_room(cache_folder()),
        gpus=len(gpus()),
        environment=of_numbers(os.environ),
        cannot_compile=answers(),
    )


def versions() -> dict[str, str]:
    """Return what this machine would run: Python, the packages that matter, the commit of ours."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            # Builds for a GPU and without one may share a cluster.
            found[name] = importlib.metadata.version(name).partition("+")[0]
    code = provenance()
    return {
        **found,
        **{name: code[name] for name in ("commit", "changes", "code") if name in code},
    }


def problems_of(
    asked: Asked,
    seen: Seen,
    *,
    between: tuple[float, float],
    ours: Mapping[str, str],
    gpus_offered: float,
    needed_bytes: int,
    environment: Mapping[str, str] | None = None,
    ways: Sequence[str] = (),
) -> Iterator[str]:
    """Yield what is wrong with a node, in words.

    Args:
        between: Unix time of the driver before it asked and after it was told.
        ours: `versions` of the driver.
        gpus_offered: GPUs that the node offers to Ray.
        needed_bytes: room for its copies of the datasets.
        environment: that of the driver, as `Seen` has it.
        ways: in which runs are compiled, each with the kind of device that they are put on.
    """
    if seen.trouble:
        yield seen.trouble
    else:
        for name, fingerprint in asked.datasets.items():
            if seen.datasets.get(name) != fingerprint:
                what = "is another" if name in seen.datasets else "is missing"
                yield f"the dataset {name} {what} there"
    for name in dict.fromkeys([*ours, *seen.versions]):
        mine, theirs = ours.get(name, "none"), seen.versions.get(name, "none")
        if mine != theirs:
            yield f"{name} is {theirs[:12]} there, {mine[:12]} on the driver's machine"
    yield from _other_numbers(environment or {}, seen.environment)
    early, late = between[0] - seen.seconds, seen.seconds - between[1]
    if max(early, late) > SKEW_SECONDS:
        how = f"{early:.0f} s behind" if early > late else f"{late:.0f} s ahead"
        yield f"its clock is {how}"
    if seen.room_bytes < needed_bytes + SPARE_BYTES:
        wanted = (needed_bytes + SPARE_BYTES) / 1e9
        yield (
            f"its disk has {seen.room_bytes / 1e9:.1f} GB left for copies, {wanted:.1f} GB are "
            "needed; HDSWEEP_CACHE names another folder"
        )
    if gpus_offered > seen.gpus:
        yield f"it offers {gpus_offered:g} GPUs, its driver lists {seen.gpus}"
    for way in ways:
        # Where runs are put on GPUs, a node without one takes none.
        if way in seen.cannot_compile and (gpus_offered or way.endswith("/cpu")):
            yield seen.cannot_compile[way]


def _other_numbers(ours: Mapping[str, str], theirs: Mapping[str, str]) -> Iterator[str]:
    """Yield what of a node's environment has it compute otherwise than the driver's machine."""
    for name in sorted({*ours, *theirs}):
        if name in CHANGE_NUMBERS and name in theirs:
            yield f"{name} is set there, which changes the numbers of runs: `ray start` without it"
        elif ours.get(name) != theirs.get(name):
            mine, other = (each.get(name, "not set") for each in (ours, theirs))
            yield f"{name} is {other} there, {mine} on the driver's machine"


def _inspect(
    node: Mapping[str, Any], asked: Asked, needed_bytes: int, ways: Sequence[str]
) -> NodeReport:
    before = time.time()
    try:
        seen = _ask(node, lambda: look(asked))
    except Exception as error:  # noqa: BLE001 - whatever keeps a node from answering
        return NodeReport(_name(node), (_unanswered(error),))
    found = problems_of(
        asked,
        seen,
        between=(before, time.time()),
        ours=versions(),
        gpus_offered=node["Resources"].get("GPU", 0.0),
        needed_bytes=needed_bytes,
        environment=of_numbers(os.environ),
        ways=ways,
    )
    return NodeReport(_name(node), tuple(found))


def _ask(node: Mapping[str, Any], question: Callable[[], Seen]) -> Seen:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    ask = ray.remote(num_cpus=0, max_retries=0)(question).options(scheduling_strategy=there)
    answer: Seen = ray.get(ask.remote(), timeout=ANSWER_SECONDS)
    return answer


def _unanswered(error: Exception) -> str:
    text = str(error).strip()
    if "No module named" in text:
        missing = text.rpartition("No module named")[2].strip().splitlines()[0]
        return f"no module named {missing} there: install hdsweep as on the driver's machine"
    first = text.splitlines()[-1] if text else type(error).__name__
    return f"it does not answer: {first}"


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerAddress']} ({node['NodeManagerHostname']})"


def _touch(storage: Storage, token: str) -> str:
    """Read what the driver wrote, and write besides; return what is wrong, or nothing."""
    name = f"{FOLDER}/{token}"
    if storage.one(name) is None or storage.read(name) != token.encode():
        return f"the home `{storage.shown}` is not shared: what the driver wrote is not there"
    storage.write(f"{name}-{secrets.token_hex(8)}", b"")
    return ""


def _fingerprints(storage: Storage, datasets: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in datasets:
        folder = f"datasets/{name}"
        if storage.one(f"{folder}/{DATA_FILE}") is not None:
            with contextlib.suppress(FileNotFoundError, ValueError):
                content = storage.read(f"{folder}/{DESCRIPTION_FILE}")
                yield name, Prepared.model_validate_json(content).fingerprint


def _bytes_of(storage: Storage, datasets: Mapping[str, str]) -> int:
    found = (storage.one(f"datasets/{name}/{DATA_FILE}") for name in datasets)
    return sum(each.bytes for each in found if each is not None)


def _room(folder: Path) -> int:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(there).free
