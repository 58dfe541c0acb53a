"""`hdsweep doctor`: is this machine ready? One line per thing looked at, with what would mend it.

Nothing is started or imported to find out, and nothing is changed but for a file that is gone at once.
"""

import importlib.metadata
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from rich.table import Table
from rich.text import Text

from orchestrator.cluster.hardware import cpu_cores, gpus
from orchestrator.plan.backbones import BACKBONES, find_weights
from orchestrator.process.environment import find, settled
from orchestrator.store.home.home import LAYOUT_VERSION, LEAST_FREE_BYTES
from orchestrator.store.home.home import Home as HomeFolder
from trainables.data.prepared import read_prepared

Verdict = Literal["ok", "warn", "fail"]

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
COMFORTABLE_FREE_BYTES = 5e9  # A demo sweep stores 0.3 GB, one at paper scale 10 GB of weights.
COMFORTABLE_MEMORY_BYTES = 6e9  # Ray, the driver and two workers of a demo sweep.
PORTS = {5000: "MLflow UI", 8265: "Ray dashboard"}
LISTENING = "0A"  # State in /proc/net/tcp.
STYLES: dict[Verdict, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    status: Verdict
    detail: str
    hint: str = ""
    """What to do about it; empty if it is fine."""


def diagnose(home: Path) -> list[Check]:
    """Return every check, in the order in which trouble should be mended."""
    looks: tuple[Callable[[Path], Iterator[Check]], ...] = (
        _python,
        _packages,
        _home,
        _modes,
        _disk,
        _memory,
        _processors,
        _ray,
        _environment,
        _ports,
        _datasets,
        _weights,
    )
    return [check for look in looks for check in look(home)]


def diagnose_nodes(home: HomeFolder, address: str) -> list[Check]:
    """Return a check per node of a cluster: does it see this home, and what this machine has?

    Raises:
        InputError: if no cluster answers at `address`.
    """
    from orchestrator.cluster.preflight import inspect_nodes
    from orchestrator.cluster.session.session import ray_session

    folders = {folder.name: read_prepared(folder) for folder in sorted(home.datasets.glob("*"))}
    datasets = {name: found.fingerprint for name, found in folders.items() if found}
    with ray_session(address):
        reports = inspect_nodes(home.address, datasets)
    return [
        Check("node", "fail", f"{each.name}: {'; '.join(each.problems)}", "before any sweep there")
        if each.problems
        else Check("node", "ok", f"{each.name}: the home, the versions, clock, disk and GPUs")
        for each in reports
    ]


def render(checks: list[Check]) -> Table:
    """Return the checks for a terminal."""
    table = Table("", "check", "found")
    for check in checks:
        found = Text(check.detail)
        if check.hint:
            found.append(f"\nhint: {check.hint}", style="dim")
        table.add_row(Text(check.status, style=STYLES[check.status]), check.name, found)
    return table


def _python(home: Path) -> Iterator[Check]:  # noqa: ARG001
    wanted = importlib.metadata.metadata("hdsweep")["Requires-Python"]
    found = platform.python_version()
    if Requirement(f"python{wanted}").specifier.contains(found):
        yield Check("Python", "ok", found)
    else:
        yield Check("Python", "fail", f"{found}, {wanted} is needed", "install a newer Python")


def _packages(home: Path) -> Iterator[Check]:  # noqa: ARG001
    listed = [Requirement(line) for line in importlib.metadata.requires("hdsweep") or ()]
    # Those of extras have a marker.
    wanted = [each for each in listed if not each.marker or each.marker.evaluate({"extra": ""})]
    tried = _pinned()
    broken, other = [], []
    for each in wanted:
        found = _version(each.name)
        if found is None or not each.specifier.contains(found, prereleases=True):
            broken.append(f"{each.name} {found or 'missing'} ({each.specifier} needed)")
        elif found.partition("+")[0] != tried.get(each.name, found).partition("+")[0]:
            other.append(f"{each.name} {found} (tried with {tried[each.name]})")
    hint = 'pip install -c constraints.txt -e "."'
    if broken:
        yield Check("packages", "fail", ", ".join(broken), hint)
    elif other:
        yield Check("packages", "warn", ", ".join(other), hint)
    else:
        yield Check("packages", "ok", f"{len(wanted)} as required")


def _home(home: Path) -> Iterator[Check]:
    if not home.exists():
        parent = next(each for each in home.parents if each.exists())
        if _takes_files(parent):
            yield Check("home", "ok", f"{home}, made by the first run")
        else:
            yield Check("home", "fail", f"{home} cannot be made", "choose another with --home")
        return
    if not home.is_dir() or not _takes_files(home):
        yield Check("home", "fail", f"{home} cannot be written", "choose another with --home")
        return
    version = _text(home / "VERSION")
    if version and not (version.isdigit() and int(version) <= LAYOUT_VERSION):
        found = f"{home} has layout version {version}, this hdsweep knows {LAYOUT_VERSION}"
        yield Check("home", "fail", found, "use the newer hdsweep, or another folder with --home")
        return
    driver = HomeFolder(home).driver
    use = f", in use by process {driver.get('pid', '?')}" if driver is not None else ""
    yield Check("home", "ok", f"{home}{use}")


def _takes_files(folder: Path) -> bool:
    """Whether a file can be made there; asked by making one, since root is told of no refusal before."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _modes(home: Path) -> Iterator[Check]:
    """Look at who else can read what only its owner should."""
    secret = [home, home / "mlflow.db", home / "lock", *home.glob("logs/*"), *_token_files()]
    loose = [
        path for path in secret if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    if loose:
        hint = " ".join(["chmod go=", *(str(path) for path in loose[:3])])
        names = ", ".join(str(path) for path in loose[:3])
        more = f" and {len(loose) - 3} more" if len(loose) > 3 else ""
        yield Check("file modes", "fail", f"open to other users: {names}{more}", hint)
    else:
        yield Check("file modes", "ok", "home, database, logs and token are the owner's only")


def _disk(home: Path) -> Iterator[Check]:
    place = next(each for each in (home, *home.parents) if each.exists())
    free = shutil.disk_usage(place).free
    hint = "free some space, or choose another folder with --home"
    if free < LEAST_FREE_BYTES:
        yield Check("disk", "fail", f"{free / 1e6:.0f} MB free", hint)
    elif free < COMFORTABLE_FREE_BYTES:
        yield Check("disk", "warn", f"{free / 1e9:.1f} GB free", hint)
    else:
        yield Check("disk", "ok", f"{free / 1e9:.0f} GB free")


def _memory(home: Path) -> Iterator[Check]:  # noqa: ARG001
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size < COMFORTABLE_MEMORY_BYTES:
        hint = "one run at a time: `hdsweep run --workers 1`"
        yield Check("memory", "warn", f"{size / 1e9:.1f} GB", hint)
    else:
        yield Check("memory", "ok", f"{size / 1e9:.1f} GB")


def _processors(home: Path) -> Iterator[Check]:  # noqa: ARG001
    yield Check("CPU", "ok", f"{cpu_cores()} cores")
    found = gpus()
    if not found:
        yield Check("GPU", "ok", "none seen; enough for the scales demo and smoke")
    elif (_version("torch") or "").endswith("+cpu"):
        hint = "install a build of torch and torchvision for this GPU"
        yield Check("GPU", "fail", f"{found[0].name}, but this PyTorch has no CUDA", hint)
    else:
        listed = ", ".join(f"{gpu.name} ({gpu.memory_gb:.0f} GB)" for gpu in found)
        yield Check("GPU", "ok", listed)


def _ray(home: Path) -> Iterator[Check]:  # noqa: ARG001
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if mode == "disabled":
        found = "RAY_AUTH_MODE=disabled: whoever reaches this machine can run code as you"
        yield Check("Ray token", "fail", found, "unset RAY_AUTH_MODE")
    elif os.environ.get("RAY_AUTH_TOKEN") or any(path.exists() for path in _token_files()):
        yield Check("Ray token", "ok", "token authentication")
    else:
        yield Check("Ray token", "ok", "token authentication; the first run makes the token")


def _environment(home: Path) -> Iterator[Check]:  # noqa: ARG001
    found = settled() or list(find(os.environ))
    if not found:
        yield Check("environment", "ok", "nothing that a sweep would read")
    other = [each for each in found if each.rule.does != "passed on"]
    if other:
        hint = " ".join(["unset", *(each.name for each in other)])
        yield Check("environment", "warn", "; ".join(map(str, other)), hint)
    passed = [each for each in found if each.rule.does == "passed on"]
    if passed:
        yield Check("environment", "ok", "; ".join(map(str, passed)))


def _ports(home: Path) -> Iterator[Check]:  # noqa: ARG001
    """Look for a UI that other machines can reach."""
    exposed = [f"{PORTS[port]} (port {port})" for port in _exposed_ports() if port in PORTS]
    if exposed:
        hint = "stop it and start it on 127.0.0.1; `hdsweep ui` does"
        found = f"reachable from other machines: {', '.join(exposed)}"
        yield Check("ports", "fail", found, hint)
    else:
        yield Check("ports", "ok", "no UI can be reached from other machines")


def _datasets(home: Path) -> Iterator[Check]:
    folders = sorted(home.glob("datasets/*"))
    found = [each for folder in folders if (each := read_prepared(folder)) is not None]
    real = [f"{each.name} ({each.stored_side} px)" for each in found if not each.generated]
    if real:
        yield Check("datasets", "ok", ", ".join(real))
    else:
        hint = "`hdsweep data list`; generated ones come by themselves"
        yield Check("datasets", "warn", "no real dataset is prepared", hint)


def _weights(home: Path) -> Iterator[Check]:
    missing = [each for each in BACKBONES.values() if find_weights(home, each.name) is None]
    if missing:
        fetched = " and ".join(f"`hdsweep weights fetch {each.name}`" for each in missing)
        hint = f"{fetched}, or `import` a file; the scales demo and smoke need none"
        names = ", ".join(each.name for each in missing)
        yield Check("ImageNet weights", "warn", f"not there: {names}", hint)
    else:
        yield Check("ImageNet weights", "ok", ", ".join(each.name for each in BACKBONES.values()))


def _pinned() -> dict[str, str]:
    """Return the versions that were tried together, if this is a checkout that says so."""
    lines = (line.partition("==") for line in (_text(CONSTRAINTS) or "").splitlines())
    return {name: version for name, _, version in lines if version}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _token_files() -> list[Path]:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return [Path(named)] if named else [Path.home() / ".ray" / "auth_token"]


def _exposed_ports() -> Iterator[int]:
    """Yield the ports on which anything listens beyond the loopback address; Linux only."""
    for table in ("tcp", "tcp6"):
        for line in (_text(Path("/proc/net") / table) or "").splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            host, _, port = address.partition(":")
            if state == LISTENING and not _loopback(host):
                yield int(port, 16)


def _loopback(host: str) -> bool:
    """Whether an address as the kernel prints it, in hexadecimal words, is this machine only."""
    ipv4 = host[-8:]  # Also of an IPv4 address mapped into IPv6.
    mapped = len(host) == 8 or host[:24] == "0000000000000000FFFF0000"
    return (mapped and ipv4.endswith("7F")) or host == "0" * 24 + "01000000"
