"""Ray's authentication token: whoever has it can run anything as its owner."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

TOKEN = Path(".ray") / "auth_token"  # Below the home folder; where Ray looks by default.


def private_token() -> Path:
    """Have a token that only its owner can read, before Ray looks for one; return its path.

    Ray makes one where there is none, but readable by everybody.
    """
    token = Path.home() / TOKEN
    token.parent.mkdir(mode=0o700, exist_ok=True)
    if not token.is_file():
        _write(token)
    for path, mode in ((token.parent, 0o700), (token, 0o600)):
        if path.stat().st_mode & 0o077:
            path.chmod(mode)
    return token


def _write(token: Path) -> None:
    """Write a new token, whole or not at all; one that somebody wrote meanwhile stands."""
    descriptor, name = tempfile.mkstemp(dir=token.parent)  # Readable by its owner alone.
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32))
    with contextlib.suppress(FileExistsError):
        os.link(name, token)
    os.unlink(name)
