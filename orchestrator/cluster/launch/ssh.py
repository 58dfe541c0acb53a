"""SSH as Ray's launcher uses it: with the user, the key and the proxy of a cluster file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SSH_FAILED = 255  # ssh's own exit status, as opposed to that of what it ran.
# Those of Ray: the machines of a cloud change their keys each time, so none is checked.
OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
)


def ssh_command(auth: Mapping[str, Any], address: str, script: str) -> list[str]:
    """Return the command that runs a shell script on a machine.

    Args:
        auth: as in a cluster file.
        script: for the login shell of the user there.
    """
    options = list(OPTIONS)
    if proxy := auth.get("ssh_proxy_command"):
        options.append(f"ProxyCommand={proxy}")
    command = ["ssh", "-T", *(part for option in options for part in ("-o", option))]
    if key := auth.get("ssh_private_key"):
        command += ["-o", "IdentitiesOnly=yes", "-i", str(Path(key).expanduser())]
    return [*command, f"{auth['ssh_user']}@{address}", script]


def last_line(text: str, otherwise: str = "no reason was given") -> str:
    """Return the last line of what a command had to say for itself."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else otherwise
