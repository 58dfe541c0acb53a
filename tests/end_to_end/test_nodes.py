"""Several machines: a sweep joins a cluster, and one of its nodes is gone in the middle."""

import json
import os
import subprocess

import pytest
from ray.cluster_utils import Cluster

from orchestrator.cluster.hardware import Devices
from orchestrator.cluster.nodes import Demand
from orchestrator.cluster.session.session import devices
from orchestrator.errors import InputError
from orchestrator.plan.cost.forecast import Resources
from tests.command_line import command, outcome
from tests.documents import document
from tests.end_to_end.processes import wait_for_text

pytestmark = pytest.mark.slow

ROWS = ("--methods", "scratch_adm,hybrid_ft", "--targets", "ph2", "--seeds", "0,1")
# Long enough that a run is under way when its node goes.
LONG = ("--set", "fine_tuning.max_epochs=60", "--set", "fine_tuning.patience=60")
MEMORY = 100 * 2**20


def sweep(home, *more):
    """Return the command of a sweep."""
    asked = ("--scale", "smoke", "--home", home, "--progress", "plain", "--json", *ROWS, *LONG)
    return command("run", "table2", *asked, *more)


@pytest.fixture
def cluster():
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": MEMORY}
    )
    yield made
    made.shutdown()


def table(home):
    (path,) = home.glob("artifacts/*/artifacts/table/table.json")
    return outcome(path.read_text())


def test_the_devices_are_those_of_the_nodes_and_not_of_the_machine_of_the_driver(cluster):
    # A head without GPUs, as in the cloud files: what the driver's own machine has says nothing.
    assert devices(cluster.address) == Devices(1, None)
    cluster.add_node(num_cpus=3, object_store_memory=MEMORY)
    assert devices(cluster.address) == Devices(4, None)
    # An autoscaler brings GPUs when they are asked for, which takes knowing that there will be some.
    assert devices(cluster.address, gpu_gb=80) == Devices(1, 80)
    cluster.add_node(num_cpus=1, num_gpus=2, object_store_memory=MEMORY)
    assert devices(cluster.address, gpu_gb=80) == Devices(2, 80)
    with pytest.raises(InputError, match="offers GPUs, but its driver lists none"):
        devices(cluster.address)


def test_a_node_that_dies_costs_nothing_but_time(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    home, log = tmp_path / "cluster", tmp_path / "stderr"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as stderr:
        process = subprocess.Popen(
            sweep(home, "--address", cluster.address),
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
        )
        wait_for_text("finished pretrain hybrid", process, log)
        wait_for_text("started  hybrid_ft ph2-like seed 0", process, log)
        cluster.remove_node(node, allow_graceful=False)
        out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, log.read_text()
    summary = json.loads(out.decode().splitlines()[-1])
    assert (summary["finished"], summary["failed"]) == (5, 0)

    alone = tmp_path / "alone"
    subprocess.run(sweep(alone), check=True, capture_output=True, timeout=300, env=environment)
    assert table(home) == table(alone)


def test_a_node_with_other_versions_is_named_before_anything_runs(cluster, tmp_path):
    # As the node sees it, another torch is installed: metadata that comes first on its path.
    info = tmp_path / "path" / "torch-2.0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.0.1\n")
    path = os.pathsep.join(filter(None, [str(info.parent), os.environ.get("PYTHONPATH")]))
    home = tmp_path / "home"
    doctor = command("doctor", "--home", home, "--address", cluster.address, "--json")

    def nodes():
        done = subprocess.run(doctor, capture_output=True, text=True, timeout=200, check=False)
        return [each for each in document(done.stdout)["checks"] if each["name"] == "node"]

    assert [each["status"] for each in nodes()] == ["ok"]
    cluster.add_node(num_cpus=1, object_store_memory=MEMORY, env_vars={"PYTHONPATH": path})
    assert sorted(each["status"] for each in nodes()) == ["fail", "ok"]
    done = subprocess.run(
        sweep(home, "--address", cluster.address),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "torch is 2.0.1 there" in done.stderr
    assert "started" not in done.stderr
    assert not list(home.glob("preflight/*"))


def test_a_node_on_which_every_run_fails_is_avoided_and_named(cluster, tmp_path):
    # Its folder for copies cannot be made: whatever is put there fails.
    (tmp_path / "file").touch()
    broken = {"HDSWEEP_CACHE": str(tmp_path / "file" / "cache")}
    cluster.add_node(num_cpus=1, object_store_memory=MEMORY, env_vars=broken)
    home = tmp_path / "home"
    more = ("--methods", "scratch_adm,hybrid_ft,hybrid_ledm", "--seeds", "0,1,2")
    done = subprocess.run(
        sweep(home, "--address", cluster.address, *more),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["finished"], summary["failed"]) == (10, 0)
    assert len(summary["avoided_nodes"]) == 1, done.stderr
    assert "is avoided from now on: 3 runs in a row failed there" in done.stderr


def test_the_autoscaler_is_told_of_all_that_could_run(cluster):
    import ray
    from ray._private.ray_constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
    from ray.experimental.internal_kv import _internal_kv_get

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        demand = Demand()

        def asked():
            return json.loads(_internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL))

        demand.tell([Resources(1, 1.0)] * 3 + [Resources(1, 0.25)] * 8)
        assert asked() == [{"CPU": 1, "GPU": 1.0}] * 3 + [{"CPU": 1, "GPU": 0.25}] * 8
        demand.tell([])  # Too soon after the last word.
        assert len(asked()) == 11
        demand.end()
        assert asked() == []
    finally:
        ray.shutdown()
