"""The head of a cluster, reached by SSH as Ray's launcher reaches it, and asked through `on_head`."""

import contextlib
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cluster.launch.cluster_file import read_cluster_file
from orchestrator.cluster.launch.ssh import SSH_FAILED, last_line, ssh_command
from orchestrator.errors import HdsweepError, InputError


class LostConnectionError(HdsweepError):
    """The head cannot be reached, or not any more; what runs there goes on."""


class NotUpError(HdsweepError):
    """There is no head, or no Ray on it."""

    def __init__(self, file: Path, reason: str) -> None:
        hint = f"`hdsweep cluster up {file}` starts it"
        super().__init__(f"the cluster of {file} is not up: {reason}", hint=hint)


@dataclass(frozen=True)
class Cluster:
    """What a cluster file says, as far as it matters here."""

    file: Path
    config: Mapping[str, Any]

    @property
    def is_local(self) -> bool:
        """Whether the machines are one's own, each with an address in the file."""
        return bool(self.config["provider"]["type"] == "local")

    @property
    def workers(self) -> tuple[str, ...]:
        """The addresses of the workers; none where a cloud gives them out."""
        return tuple(map(str, self.config["provider"].get("worker_ips") or ()))

    @property
    def least_workers(self) -> int:
        """How many workers the file asks for at least."""
        if self.is_local:
            return min(int(self.config.get("min_workers", len(self.workers))), len(self.workers))
        types = self.config.get("available_node_types") or {}
        head = self.config.get("head_node_type")
        return sum(int(t.get("min_workers", 0)) for name, t in types.items() if name != head)

    @property
    def commands(self) -> str:
        """The folder of `ray` and `hdsweep` on the machines, as a shell there reads it."""
        starts = self.config.get("head_start_ray_commands") or ()
        found = re.search(r"(\S*/)ray start", "\n".join(starts))
        return found[1] if found else '"$(dirname "$(command -v ray)")"/'


def read_cluster(file: Path) -> Cluster:
    """Return what a cluster file says.

    Raises:
        InputError: if it is no cluster file, or one that we cannot work with.
    """
    config = read_cluster_file(file)
    if not isinstance(config.get("provider"), dict) or "type" not in config["provider"]:
        raise InputError(f"{file}: provider.type is missing: local, aws or gcp")
    if config.get("docker"):
        raise InputError(
            f"{file}: docker: `hdsweep cluster` talks to machines, not into containers",
            hint="use `ray up`, `ray exec` and `ray down` with this file",
        )
    return Cluster(file, config)


class Head:
    """A way to the head: its address, and how to log in."""

    def __init__(self, cluster: Cluster) -> None:
        """Find out where the head is.

        Raises:
            NotUpError: if there is none.
        """
        self._cluster = cluster
        provider, self._auth = cluster.config["provider"], dict(cluster.config["auth"])
        if cluster.is_local:
            self.address = str(provider.get("external_head_ip") or provider["head_ip"])
        else:
            self.address = self._look_up()

    def _look_up(self) -> str:
        """Return the address of a cloud's head, and note the key that Ray made for it."""
        from ray.autoscaler import sdk

        with contextlib.redirect_stdout(sys.stderr):
            try:
                self._auth = dict(sdk.bootstrap_config(dict(self._cluster.config))["auth"])
                return str(sdk.get_head_node_ip(str(self._cluster.file)))
            except Exception as error:
                reason = (str(error) or type(error).__name__).strip().partition("\n")[0]
                raise NotUpError(self._cluster.file, reason) from error

    def require_login(self) -> None:
        """Find out now whether the key opens the head.

        Raises:
            LostConnectionError: if not, with the reason.
        """
        done = subprocess.run(
            ssh_command(self._auth, self.address, "true"),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode:
            raise self._unreachable(done.stderr)

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Return the one answer to a question."""
        (answer,) = self.listen(verb, **arguments)
        return answer

    def listen(self, verb: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield the answers of a function of `on_head` as they come.

        Raises:
            NotUpError: if no Ray runs there.
            HdsweepError: if it could not be answered, with the head's own reason.
            LostConnectionError: if there is no connection, or not any more.
        """
        command = ssh_command(self._auth, self.address, self._script(verb, arguments))
        with tempfile.TemporaryFile("w+", encoding="utf-8") as stderr:
            # Standard input is never written: its end tells the other side that we are gone.
            with subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
                errors="replace",
            ) as process:
                assert process.stdout is not None
                try:
                    yield from self._answers(process.stdout)
                except BaseException:
                    process.kill()
                    raise
            stderr.seek(0)
            reason = stderr.read()
        if process.returncode == SSH_FAILED:
            raise self._unreachable(reason)
        if process.returncode:
            raise HdsweepError(
                f"head {self.address}: {last_line(reason)}",
                hint="is hdsweep installed there, in this version?",
            )

    def _answers(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if not line.startswith("{"):
                continue  # Greetings of a login shell.
            answer: dict[str, Any] = json.loads(line)
            if answer.get("absent"):
                raise NotUpError(self._cluster.file, f"no Ray on {self.address}")
            if "error" in answer:
                raise HdsweepError(f"head {self.address}: {answer['error']}")
            yield answer

    def _script(self, verb: str, arguments: Mapping[str, Any]) -> str:
        """Return the command of a shell that asks `on_head`."""
        asked = shlex.join([verb, json.dumps(arguments)])
        python = f"{self._cluster.commands}python -P -m orchestrator.cluster.launch.on_head"
        # The first lines of .bashrc hold what the cluster file put there, such as HDSWEEP_HOME.
        script = f"source ~/.bashrc >/dev/null 2>&1; RAY_AUTH_MODE=token exec {python} {asked}"
        return f"bash --login -c {shlex.quote(script)}"

    def _unreachable(self, reason: str) -> LostConnectionError:
        return LostConnectionError(
            f"cannot log in to the head {self.address} as {self._auth['ssh_user']}: "
            f"{last_line(reason)}"
        )
