"""`hdsweep doctor`: whether this machine is ready, and what to do where it is not."""

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from rich.table import Table

from orchestrator.backbones import BACKBONES, find_weights
from orchestrator.hardware import cpu_cores, gpus
from orchestrator.home import LEAST_FREE_BYTES, Home, holder
from trainables.data.datasets import all_datasets
from trainables.data.prepared import read_prepared

Verdict = Literal["ok", "warn", "fail"]
COMFORTABLE_FREE_BYTES = 5 * 2**30
STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    status: Verdict
    detail: str
    hint: str = ""


def diagnose(path: Path) -> list[Check]:
    """Look at the versions, the home folder, the hardware, and what is prepared."""
    home = Home(path)
    return [_python(), *_packages(), *_home(home), _hardware(), _datasets(home), *_weights(home)]


def render(checks: list[Check]) -> Table:
    """Return the checks for a terminal."""
    table = Table("", "what", "found", "what to do")
    for check in checks:
        mark = f"[{STYLES[check.status]}]{check.status}[/]"
        table.add_row(mark, check.name, check.detail, check.hint)
    return table


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Check("Python", "ok" if good else "fail", found, "" if good else "use 3.11 or newer")


def _packages() -> Iterator[Check]:
    """Yield one check for each package that is missing or too old, or one for all of them."""
    bad = list(_bad_packages(requires("hdsweep") or []))
    yield from bad
    if not bad:
        names = ("torch", "ray", "mlflow", "diffusers", "transformers")
        found = ", ".join(f"{name} {version(name)}" for name in names)
        yield Check("packages", "ok", found)


def _bad_packages(lines: list[str]) -> Iterator[Check]:
    for requirement in map(Requirement, lines):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        hint = f"pip install -c constraints.txt '{requirement.name}{requirement.specifier}'"
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Check(requirement.name, "fail", "not installed", hint)
            continue
        if found not in requirement.specifier:
            yield Check(requirement.name, "fail", f"{found}, too old", hint)


def _home(home: Home) -> Iterator[Check]:
    at = next(folder for folder in (home.path, *home.path.parents) if folder.exists())
    if not os.access(at, os.W_OK):
        yield Check("home", "fail", f"{home.path} cannot be written", "choose another with --home")
        return
    free = shutil.disk_usage(at).free
    low = free < COMFORTABLE_FREE_BYTES
    status: Verdict = "fail" if free < LEAST_FREE_BYTES else "warn" if low else "ok"
    hint = "free some space: a paper-scale checkpoint is 1.7 GB" if low else ""
    yield Check("home", status, f"{home.path}, {free / 2**30:.1f} GiB free", hint)
    if home.path.exists() and stat.S_IMODE(home.path.stat().st_mode) & 0o077:
        mode = f"{stat.S_IMODE(home.path.stat().st_mode):o}"
        yield Check("home mode", "warn", f"others can read it ({mode})", f"chmod 700 {home.path}")
    driver = holder(home)
    if driver is not None:
        since = f"process {driver.get('pid')} since {driver.get('since')}"
        yield Check("sweep", "ok", f"one is running: {since}")


def _hardware() -> Check:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    here = f"{cpu_cores()} CPU cores, {memory:.0f} GiB"
    cards = [f"{gpu.name} ({gpu.memory_gb:.0f} GB)" for gpu in gpus()]
    if cards:
        return Check("hardware", "ok", f"{here}, {', '.join(cards)}")
    return Check("hardware", "ok", f"{here}, no GPU", "enough for the scales demo and smoke")


def _datasets(home: Home) -> Check:
    found = [read_prepared(folder) for folder in sorted(home.datasets.glob("*"))]
    names = [f"{each.name} at {each.stored_side} px" for each in found if each is not None]
    real = {each.name for each in found if each is not None and not each.generated}
    missing = [n for n, info in all_datasets().items() if not info.generated and n not in real]
    hint = f"the scale paper also needs {', '.join(missing)}" if missing else ""
    return Check("datasets", "warn" if missing else "ok", ", ".join(names) or "none", hint)


def _weights(home: Home) -> Iterator[Check]:
    for backbone in BACKBONES.values():
        path = find_weights(home.path, backbone.name)
        hint = f"the scale paper needs {backbone.origin} in {home.weights}"
        yield (
            Check(f"weights {backbone.name}", "ok", path.name)
            if path
            else Check(f"weights {backbone.name}", "warn", "not there", hint)
        )
