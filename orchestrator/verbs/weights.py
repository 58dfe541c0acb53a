"""`hdsweep weights`: the ImageNet weights of a home folder: what is there, and getting the rest."""

import contextlib
import re
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import DownloadColumn, Progress
from rich.table import Table

from orchestrator.errors import InputError, UnknownNameError
from orchestrator.plan.backbones import (
    BACKBONES,
    checksum,
    file_sha256,
    find_weights,
    note_origin,
    origin_of,
)
from orchestrator.store.home.home import Home
from trainables.methods import Family, all_methods

if TYPE_CHECKING:
    from trainables.networks.weights import KeyReport

TIMEOUT_S = 30
PIECE = 2**20
HASH_DIGITS = 8  # torchvision's files end in this many digits of their SHA-256.


def listed(home: Path) -> list[dict[str, Any]]:
    """Return one record per backbone."""
    records = []
    for family, backbone in BACKBONES.items():
        path = find_weights(home, backbone.name)
        origin = origin_of(backbone, path) if path else None
        rows = [m.name for m in all_methods().values() if m.imagenet and m.network == family]
        records.append(
            {
                "name": backbone.name,
                "origin": backbone.origin,
                "rows": rows,
                "file": path.name if path else None,
                "bytes": path.stat().st_size if path else None,
                "sha256": checksum(path) if path else None,
                "source_sha256": origin.sha256 if origin else None,
                "published": origin.published if origin else None,
            }
        )
    return records


def render_weights(records: list[dict[str, Any]]) -> Table:
    """Return the records for a terminal."""
    table = Table("name", "what it is", "rows that need it", "here")
    for record in records:
        here = "no"
        if record["file"]:
            here = f"{record['bytes'] / 1e6:.0f} MB, {in_words(record)}"
        table.add_row(record["name"], record["origin"], "\n".join(record["rows"]), here)
    return table


def in_words(record: dict[str, Any]) -> str:
    """Return which file the weights of a record were imported from."""
    which = "the published file" if record["published"] else "not the published file"
    return f"{which}\nsha256 {record['source_sha256'][:16]}"


def import_weights(
    name: str, source: Path, home: Home, *, from_publisher: bool = False
) -> "KeyReport":
    """Check a file or folder of weights and store it in the home folder.

    Args:
        from_publisher: whether the file came from where the weights are published.

    Raises:
        InputError: if the backbone is unknown, or the file cannot be read or does not fit.
    """
    from trainables.networks.weights import store_backbone, weight_file

    family, stored = family_of(name), home.weights / f"{name}.safetensors"
    try:
        file = weight_file(source.expanduser())
        report = store_backbone(family, file, stored)
    except ValueError as error:
        raise InputError(str(error)) from error
    note_origin(stored, file_sha256(file), from_publisher=from_publisher)
    for ending in (".pth", ".pt", ".bin"):  # Put there by hand, and now hidden by ours.
        (home.weights / f"{name}{ending}").unlink(missing_ok=True)
    home.push()
    return report


def fetch_weights(name: str, home: Home, *, url: str | None = None) -> "KeyReport":
    """Download published weights and import them.

    Args:
        url: another place to have them from, such as a mirror; `http`, `https` or `file`.

    Raises:
        InputError: if they cannot be downloaded, or what came is not them.
    """
    from trainables.networks.weights import published_url

    published = published_url(family_of(name))
    url = url or published
    ending = Path(url).suffix
    with _temporary(home.weights / f".{name}.download{ending}") as path:
        _download(url, path, name)
        _check_hash(url, path)
        return import_weights(name, path, home, from_publisher=url == published)


def render_report(report: "KeyReport") -> str:
    """Return what a weight file did, in a line."""
    # By the part of the network: `model.classifier` for all that is in DeepLab's head.
    parts = Counter(".".join(name.split(".")[:2]) for name in report.new)
    new = ", ".join(f"{part} ({count})" for part, count in parts.items())
    text = f"{len(report.loaded)} tensors of the encoder loaded; {len(report.new)} stay random"
    text += f": {new}" if new else ""
    if report.unexpected:
        text += f"; not used: {', '.join(report.unexpected[:4])}"
        if len(report.unexpected) > 4:
            text += f" and {len(report.unexpected) - 4} more"
    return text


def imported_record(name: str, home: Home, report: "KeyReport") -> dict[str, Any]:
    """Return what was imported, for machines."""
    (record,) = (each for each in listed(home.path) if each["name"] == name)
    keys = ("name", "sha256", "source_sha256", "published")
    what = {"loaded": report.loaded, "new": report.new, "unexpected": report.unexpected}
    return {**{key: record[key] for key in keys}, **what}


def family_of(name: str) -> Family:
    """Return the family of networks that a backbone is for.

    Raises:
        UnknownNameError: if there is no such backbone.
    """
    families: dict[str, Family] = {each.name: family for family, each in BACKBONES.items()}
    if name not in families:
        raise UnknownNameError("backbone", name, families, where="NAME")
    return families[name]


def _download(url: str, path: Path, name: str) -> None:
    console = Console(file=sys.stderr)
    columns = (*Progress.get_default_columns()[:2], DownloadColumn())
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_S) as source,
            path.open("wb") as target,
            Progress(*columns, console=console, disable=not console.is_terminal) as bar,
        ):
            total = int(source.headers.get("Content-Length") or 0) or None
            task = bar.add_task(f"downloading {name}", total=total)
            while piece := source.read(PIECE):
                target.write(piece)
                bar.advance(task, len(piece))
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"cannot download {url}: {reason}",
            hint=f"get the file elsewhere and `hdsweep weights import {name} FILE`",
        ) from error


def _check_hash(url: str, path: Path) -> None:
    """Hold a file against the digits in its name, as torchvision's have them."""
    named = re.search(rf"-([0-9a-f]{{{HASH_DIGITS}}})\.", url)
    if named is None:
        return
    found = file_sha256(path)
    if not found.startswith(named[1]):
        raise InputError(f"{url}: what came has the checksum {found[:16]}, not {named[1]}...")


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
