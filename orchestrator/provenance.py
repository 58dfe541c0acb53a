"""Which code makes a result: commit and state of its repository, version of the package."""

import hashlib
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SOURCES = Path(__file__).parents[1]
HEX_DIGITS = 12


@cache
def provenance() -> dict[str, str]:
    """Return the version of hdsweep and, in a git checkout, its commit and a hash of its changes."""
    found = {"hdsweep": _version()}
    commit = _git("rev-parse", "HEAD")
    if commit:
        found["commit"] = commit
        if changes():
            found["changes"] = hashlib.sha256(changes().encode()).hexdigest()[:HEX_DIGITS]
    return found


@cache
def changes() -> str:
    """Return what differs in our sources from their commit, as a patch; empty outside a checkout."""
    return _git("diff", "HEAD")


def _version() -> str:
    try:
        return version("hdsweep")
    except PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    """Return what git prints about our sources; nothing outside a checkout or without git."""
    if not (SOURCES / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(SOURCES), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip()
