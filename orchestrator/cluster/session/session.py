"""Ray for the length of one sweep: started on this machine, or joined where it runs already.

What is started here is closed to others: it listens on the loopback address only, without a
dashboard, Ray's token authentication left on with a token that only its owner can read, its files in
a private temporary folder that goes with it.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.cluster.hardware import Devices, cpu_cores, gpus, local_devices
from orchestrator.cluster.session.private import (
    MAY_BE_JOINED,
    SENDS_A_DIRECTORY,
    require_known_ray,
)
from orchestrator.cluster.session.processes import kept_apart
from orchestrator.cluster.session.token import private_token
from orchestrator.errors import HdsweepError, InputError
from orchestrator.process.environment import settle
from orchestrator.process.private_folder import private_folder

CLUSTER_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # Read by Ray on every system.
ANSWER_SECONDS = 60  # For a node to start a worker and answer.
# How Ray words that it gave up after 30 seconds, in an exception of no class of its own.
TOO_SLOW = "timed out during startup"
CONNECT_SECONDS = 10.0
STARTS = 2
OBJECT_STORE_BYTES = 100 * 2**20  # Ray's minimum is 75 MiB; nothing large goes through it.


@contextlib.contextmanager
def ray_session(address: str = "local", *, workers: int | None = None) -> Iterator[Path]:
    """Have Ray running, and leave nothing behind that was started here.

    Yields a private folder that goes with it. From any thread; signals are the main thread's alone.

    Args:
        address: `local` starts Ray on this machine; anything else names a cluster to join.
        workers: CPU slots, each of which runs one training; all cores by default.

    Raises:
        InputError: if no cluster answers at `address`.
        OtherRayError: if the installed Ray lacks what a sweep needs of it.
    """
    settle()
    # One thread per worker unless a run says otherwise; read when a worker imports torch.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # cuBLAS is deterministic only with a fixed workspace, chosen before CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import ray

    require_known_ray()
    # Not in the home: the paths of Ray's sockets must stay below 108 characters.
    with private_folder("ray", Path("/tmp")) as folder, contextlib.ExitStack() as ended:
        with kept_apart() as processes:
            ended.callback(processes.end)
            ended.callback(ray.shutdown)  # Called first.
            if address == "local":
                private_token()
                _start(folder, workers or cpu_cores())
            else:
                _join(address)
        yield folder


def devices(address: str, *, workers: int | None = None, gpu_gb: float | None = None) -> Devices:
    """Return what runs can be put on: of this machine, or of the nodes of a cluster.

    Args:
        address: `local`, or a cluster, which is joined for a moment.
        workers: CPU slots of this machine.
        gpu_gb: memory of the GPUs of a cluster, where they are not there yet (an autoscaler brings
            them when they are asked for) or their driver tells nothing.

    Raises:
        InputError: if no cluster answers, or a node offers GPUs without a driver that lists them.
    """
    if address == "local":
        return local_devices(workers)
    settle()
    import ray

    _join(address)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        count = sum(node["Resources"].get("GPU", 0) for node in nodes)
        if gpu_gb is None and count:
            gpu_gb = min(_memory_of(node) for node in nodes if node["Resources"].get("GPU", 0))
        if gpu_gb is not None:
            return Devices(max(int(count), 1), gpu_gb)
        return Devices(max(int(sum(n["Resources"].get("CPU", 0) for n in nodes)), 1), None)
    finally:
        ray.shutdown()


def _memory_of(node: Mapping[str, Any]) -> float:
    """Return the memory of the smallest GPU of a node, asked there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    ask = ray.remote(num_cpus=0)(gpus).options(scheduling_strategy=there)
    found = ray.get(ask.remote(), timeout=ANSWER_SECONDS)
    if not found:
        raise InputError(
            f"node {node['NodeManagerAddress']} offers GPUs, but its driver lists none",
            hint="tell their memory in GB with --gpu-gb",
        )
    return float(min(gpu.memory_gb for gpu in found))


def _start(folder: Path, workers: int) -> None:
    """Start Ray; on a machine so busy that Ray gives up after its 30 seconds, once more.

    Raises:
        HdsweepError: if it gives up twice.
    """
    import ray

    for _ in range(STARTS):
        try:
            return _init(folder, workers)
        except Exception as error:
            if TOO_SLOW not in str(error):
                raise
            ray.shutdown()
            reason = error
    raise HdsweepError(
        f"Ray did not start on this machine, tried {STARTS} times: it is too busy",
        hint="the same command again, when less runs beside it",
    ) from reason


def _init(folder: Path, workers: int) -> None:
    import ray

    with _loopback_only():
        ray.init(
            address="local",
            num_cpus=workers,
            num_gpus=len(gpus()),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=OBJECT_STORE_BYTES,
            job_config=_without_paths(),
            _temp_dir=str(folder),
        )


def _without_paths() -> Any:
    """Return the configuration of a job whose workers look for modules where this process does.

    Ray puts the working directory of the driver, and its script's, before all else on the path of
    its workers, unless there is a directory that it sent there itself. What happens to lie in them is
    no part of a sweep.
    """
    from ray.job_config import JobConfig

    class WithoutPaths(JobConfig):  # type: ignore[misc]
        def _runtime_env_has_working_dir(self) -> bool:
            return True

    SENDS_A_DIRECTORY.get()  # Or it would be overridden in vain.
    return WithoutPaths()


@contextlib.contextmanager
def _loopback_only() -> Iterator[None]:
    """Have a Ray that is started inside listen on 127.0.0.1, where it listens on all addresses.

    Ray's own way where other machines cannot join anyway, its default on macOS and Windows. The
    address of the node follows from it, and from that where each process listens. Asking for
    127.0.0.1 by `_node_ip_address` does nothing: Ray replaces it by the machine's address.
    """
    variable = os.environ.get(CLUSTER_VARIABLE)
    # The variable for the processes that Ray starts, the constant for this one, which has read it.
    os.environ[CLUSTER_VARIABLE] = "0"
    try:
        with MAY_BE_JOINED.replaced(False):
            yield
    finally:
        if variable is None:
            del os.environ[CLUSTER_VARIABLE]
        else:
            os.environ[CLUSTER_VARIABLE] = variable


def _join(address: str) -> None:
    import ray

    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "/" not in host:
            # Ray would look for it for minutes.
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            job_config=_without_paths(),
        )
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        hint = "start one with `ray start --head`, or leave `--address` out"
        raise InputError(f"no Ray cluster at `{address}`: {reason}", hint=hint) from error
