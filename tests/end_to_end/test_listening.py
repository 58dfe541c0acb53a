"""Who can speak to a sweep: only this machine to a local one, only holders of the token to a cluster."""

import http.client
import os
import shlex
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import yaml

from orchestrator.verbs.doctor import LISTENING, _loopback
from tests.command_line import command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SWEEP = ("--methods", "scratch_adm,hybrid_ft", "--targets", "ph2", "--seeds", "0")

# One method of each service of Ray, which only reads; what a port does not serve it calls unimplemented.
METHODS = (
    "NodeInfoGcsService/GetAllNodeInfo",
    "NodeManagerService/GetNodeStats",
    "ObjectManagerService/Push",
    "CoreWorkerService/GetCoreWorkerStats",
    "ReporterService/HealthCheck",
    "RayletDriver/ClusterInfo",
)
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def tree(pid: int) -> set[int]:
    """Return a process and all that descend from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # It has ended.
    found, grown = set(), {pid}
    while grown:
        found |= grown
        grown = {child for child, parent in parents.items() if parent in grown} - found
    return found


def sockets(pids: set[int]) -> set[str]:
    """Return the inodes of all sockets that these processes hold."""
    inodes = set()
    for pid in pids:
        try:
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                target = os.readlink(descriptor)
                inodes.add(target.removeprefix("socket:[").rstrip("]"))
        except OSError:
            continue  # It, or the descriptor, has gone.
    return inodes


def listening(pid: int) -> set[tuple[str, int]]:
    """Return addresses, in the kernel's hexadecimal words, and ports on which a tree listens."""
    held = sockets(tree(pid))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            host, _, port = fields[1].partition(":")
            if fields[3] == LISTENING and fields[9] in held:
                found.add((host, int(port, 16)))
    return found


def watched(process: subprocess.Popen, of: int) -> Iterator[set[tuple[str, int]]]:
    """Yield where the tree of `of` listens, again and again until `process` ends."""
    while process.poll() is None:
        yield listening(of)
        time.sleep(0.3)


def sweep(home: Path, log: Path, *more: str, **environment: str) -> subprocess.Popen:
    asked = ("--scale", "smoke", *SWEEP, "--home", home, "--progress", "plain", "--json", *more)
    with log.open("w") as stderr:
        return subprocess.Popen(
            command("run", "table2", *asked),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )


def dotted(host: str) -> str:
    """Return an IPv4 address from the kernel's hexadecimal word; loopback for the any-address."""
    word = int(host[-8:], 16)
    return socket.inet_ntoa(struct.pack("<I", word)) if word else "127.0.0.1"


def without_token(host: str, port: int) -> str:
    """Return what a port does for who has no token: `refuses`, `metrics`, `answers` or `gone`."""
    url = f"http://{host}:{port}/api/jobs/"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            metrics = answer.headers["Content-Type"].startswith("text/plain; version=")
            return "metrics" if metrics else "answers"
    except urllib.error.HTTPError as error:
        return "refuses" if error.code in (401, 403) else "answers"
    except (OSError, http.client.HTTPException):
        pass  # It does not speak HTTP.
    codes = {code for method in METHODS if (code := _call(host, port, method)) is not None}
    if not codes or codes == {grpc.StatusCode.UNAVAILABLE}:
        return "gone"
    return "refuses" if codes <= {*REFUSED} else f"answers {sorted(map(str, codes))}"


def _call(host: str, port: int, method: str) -> grpc.StatusCode | None:
    """Return the status of a call, or None if the port has no such method."""
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        call = channel.unary_unary(
            f"/ray.rpc.{method}", request_serializer=bytes, response_deserializer=bytes
        )
        try:
            call(b"", timeout=10)
        except grpc.RpcError as error:
            code = error.code()
            return None if code is grpc.StatusCode.UNIMPLEMENTED else code
        return grpc.StatusCode.OK


def test_a_local_sweep_listens_on_the_loopback_address_alone_and_refuses_without_the_token(
    tmp_path,
):
    log = tmp_path / "stderr"
    process = sweep(tmp_path / "home", log)
    seen, refused = set(), set()
    for now in watched(process, process.pid):
        seen |= now
        if not refused and "started  " in log.read_text():
            ports = [port for _, port in now]
            with ThreadPoolExecutor(len(ports)) as pool:
                told = list(pool.map(lambda port: without_token("127.0.0.1", port), ports))
            refused = {port for port, how in zip(ports, told, strict=True) if how == "refuses"}
    assert process.returncode == 0, log.read_text()
    # GCS, raylet twice, agents and workers at the least.
    assert len(seen) > 6
    assert not [each for each in seen if not _loopback(each[0])]
    assert refused


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Iterator[tuple[int, str, dict[str, str]]]:
    """A head, started by the command of a cluster file but for places and ports.

    Yields its process, its address, and the variables of who may join.
    """
    home = tmp_path_factory.mktemp("head")
    content = yaml.safe_load((ROOT / "cluster" / "aws.yaml").read_text())
    (start,) = (c for c in content["head_start_ray_commands"] if "ray start" in c)
    start = start.replace("~/hdsweep/.venv/bin", shlex.quote(str(BIN)))
    start = start.replace(" --autoscaling-config=~/ray_bootstrap_config.yaml", "")
    ports = _free_ports(6)
    start = start.replace("--port=6379", f"--port={ports[0]}").replace("--num-cpus=0", "")
    environment = {
        "HOME": str(home),
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "AUTOSCALER_METRIC_PORT": str(ports[1]),
        "DASHBOARD_METRIC_PORT": str(ports[2]),
    }
    token = home / ".ray" / "auth_token"
    token.parent.mkdir(mode=0o700)
    token.write_text("0" * 64)
    token.chmod(0o600)
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        more = f"--block --num-cpus=2 --temp-dir={folder} --dashboard-port={ports[3]}"
        more += f" --ray-client-server-port={ports[4]} --dashboard-agent-listen-port={ports[5]}"
        with (home / "log").open("w") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"{start} {more} --object-store-memory=100000000"],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )
        try:
            yield process.pid, f"127.0.0.1:{ports[0]}", environment
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    """End a head and every process that came from it."""
    descendants = tree(process.pid)
    for pid in descendants:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    process.wait(timeout=60)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _wait_for_head(address: str) -> None:
    host, port = address.split(":")
    for _ in range(600):
        with socket.socket() as trial:
            if trial.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("the head did not start")


def test_on_a_cluster_whatever_others_can_reach_refuses_without_the_token_but_metrics(
    head, tmp_path
):
    pid, address, environment = head
    _wait_for_head(address)
    log = tmp_path / "stderr"
    process = sweep(tmp_path / "home", log, "--address", address, **environment)
    found = {}
    for now in watched(process, pid):
        if "started  " not in log.read_text():
            continue
        for host, port in now - set(found):
            answer = without_token(dotted(host), port)
            if answer != "gone":
                found[host, port] = answer
    assert process.returncode == 0, log.read_text()
    ours = {port: answer for (host, port), answer in found.items() if _loopback(host)}
    reachable = {port: answer for (host, port), answer in found.items() if not _loopback(host)}
    # GCS, raylet twice, agents, runtime environments, the client server and two workers at the least.
    assert list(reachable.values()).count("refuses") > 6, found
    # Numbers for Prometheus: of the node, of the dashboard and of the autoscaler.
    assert {*reachable.values()} == {"refuses", "metrics"}, found
    assert list(reachable.values()).count("metrics") == 3, found
    # The dashboard itself, with the job API.
    assert "refuses" in ours.values(), found


def test_a_cluster_is_not_joined_without_its_token(head, tmp_path):
    _, address, environment = head
    _wait_for_head(address)
    stranger = tmp_path / "stranger"
    (stranger / ".ray").mkdir(parents=True)
    (stranger / ".ray/auth_token").write_text("1" * 64)
    log = tmp_path / "stderr"
    process = sweep(
        tmp_path / "home",
        log,
        "--address",
        address,
        **{**environment, "HOME": str(stranger)},
    )
    assert process.wait(timeout=120) == 2, log.read_text()
    assert "no Ray cluster at" in log.read_text()
