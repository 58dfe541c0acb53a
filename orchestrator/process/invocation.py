"""The command that was typed, fit to be stored and shown: nothing in it that opens a door.

Masked are the user and the password in any address, what its query says but for the places that are known to be
harmless, the path of a web address that is told (`--notify`: its topic is its password), and the arguments of a
command that is told.
"""

import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

HIDDEN = "***"
TOLD = "--notify"
HARMLESS = ("endpoint_override", "scheme", "region", "retry_limit_seconds", "anonymous")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")
OURS = ("hdsweep", "orchestrator/cli.py", "orchestrator/__main__.py")


def typed() -> str | None:
    """Return the command of this process, masked; None if it is not `hdsweep`."""
    program, *arguments = sys.argv or [""]
    if not program.endswith(OURS):
        return None
    return shown(arguments)


def begun() -> str:
    """Return how the command of this process begins, masked: program, verb and what comes next."""
    program, *arguments = sys.argv or [""]
    first = list(_masked(arguments))[:2]
    return " ".join(
        [Path(program).name, *(each if "://" in each else Path(each).name for each in first)]
    )


def shown(arguments: Iterable[str]) -> str:
    """Return a call of `hdsweep` with these arguments as a shell takes it, masked."""
    return shlex.join(["hdsweep", *_masked(arguments)])


def masked(text: str) -> str:
    """Return a text with what is secret in each address of it hidden."""
    return ADDRESS.sub(lambda found: _address(found[0]), text)


def _masked(arguments: Iterable[str]) -> Iterator[str]:
    told = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if told:
            yield _told(argument)
        elif name == TOLD and equals:
            yield f"{TOLD}={_told(value)}"
        else:
            yield masked(argument)
        told = argument == TOLD


def _told(what: str) -> str:
    """Return whom is told, without what makes that possible."""
    if ADDRESS.match(what):
        parts = urlsplit(what)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{HIDDEN}"
    program, _, rest = what.strip().partition(" ")
    return f"{program} {HIDDEN}" if rest else program


def _address(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return f"{address.partition('://')[0]}://{HIDDEN}"
    user, at, place = parts.netloc.rpartition("@")
    netloc = f"{user if user == 'anonymous' else HIDDEN}@{place}" if at else place
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = "&".join(f"{k}={v if k in HARMLESS else HIDDEN}" for k, v in pairs)
    hidden = parts._replace(netloc=netloc, query=query, fragment="")
    return hidden.geturl()
