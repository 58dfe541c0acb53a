"""Which code makes a result: commit and state of its repository, version of the package."""

import hashlib
import os
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trainables.code import code_hash

SOURCES = Path(__file__).parents[1]
PACKAGES = ("orchestrator", "trainables", "search_spaces")
HEX_DIGITS = 12


@cache
def provenance() -> dict[str, str]:
    """Return version and hash of hdsweep's code; in a git checkout, commit and a hash of changes."""
    found = {"hdsweep": _version(), "code": code_hash()}
    commit = _git("rev-parse", "HEAD")
    if commit:
        found["commit"] = commit
        if changes():
            found["changes"] = hashlib.sha256(changes().encode()).hexdigest()[:HEX_DIGITS]
    return found


@cache
def changes() -> str:
    """Return what differs in our sources from their commit, as a patch; empty outside a checkout.

    New modules that git does not know yet included: a method that was dropped in, say. Nothing else
    that lies about is read.
    """
    return "\n".join(filter(None, (_git("diff", "HEAD"), *map(_as_new, _new_modules()))))


def _new_modules() -> list[str]:
    listed = _git("ls-files", "--others", "--exclude-standard", "--", *PACKAGES)
    return sorted(name for name in listed.splitlines() if name.endswith((".py", ".toml")))


def _as_new(name: str) -> str:
    """Return a file as the patch that adds it."""
    return _git("diff", "--no-index", "--", os.devnull, name, may_exit=(0, 1))


def _version() -> str:
    try:
        return version("hdsweep")
    except PackageNotFoundError:
        return "not installed"


def _git(*arguments: str, may_exit: tuple[int, ...] = (0,)) -> str:
    """Return what git prints about our sources; nothing outside a checkout or without git."""
    if not (SOURCES / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(SOURCES), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip() if done.returncode in may_exit else ""
