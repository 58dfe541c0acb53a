"""`ray up` for real: three machines, each in namespaces of its own, and `cluster/on_prem.yaml`.

The whole of Table 2 at smoke scale, undisturbed and with a fault in its middle; the table has to be that of
one machine each time. And mistakes, each of which has to be told in a line that names the machine.
"""

import pytest

from tests.cluster import scenarios
from tests.cluster.lab import ADDRESSES, HEAD, WORKERS, laboratory, why_not
from tests.cluster.scenarios import KILLED, NOTICED_S, RUNS, VALUES, hdsweep, up

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
]

GPU_1, GPU_2 = (ADDRESSES[name] for name in WORKERS)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with laboratory(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def file(lab):
    return lab.cluster_file()


@pytest.fixture(scope="module")
def cluster(lab, file):
    """Return the cluster file of a cluster that is up; the tests run in their order and share it."""
    done, _ = up(lab, file)
    assert done.returncode == 0, done.stderr[-3000:]
    assert scenarios.joined(done).keys() == {GPU_1, GPU_2}
    return file


@pytest.fixture(scope="module")
def reference(lab):
    return scenarios.alone(lab)


def require_whole(outcome):
    assert (outcome.values, outcome.identical) == (VALUES, True)
    assert outcome.summary["reused"] + outcome.summary["finished"] == RUNS


def test_a_login_that_is_refused_is_one_line(lab):
    other = lab.cluster_file(("~/.ssh/id_ed25519", "~/.ssh/other"))
    lab.laptop.shell("test -f ~/.ssh/other || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/other")
    done, _ = up(lab, other)
    lab.cluster_file()
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert f"cannot log in to the head {ADDRESSES[HEAD]} as root" in line
    assert "Permission denied" in line


@pytest.mark.parametrize("mistake", scenarios.MISTAKES, ids=lambda each: each.name)
def test_a_worker_that_cannot_join_is_named_with_the_reason(lab, file, mistake):
    mistake.make(lab)
    done, _ = up(lab, file, "--wait", str(scenarios.BAD_S))
    mistake.mend(lab)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert mistake.line in line


def test_the_table_of_the_cluster_is_that_of_one_machine(lab, cluster, reference):
    outcome = scenarios.undisturbed(lab, cluster, reference)
    require_whole(outcome)
    assert outcome.statuses == [0]
    assert all(outcome.nodes.get(name, 0) > 1 for name in WORKERS), outcome.nodes
    assert outcome.again == 0


def test_a_network_that_is_cut_for_a_moment(lab, cluster, reference):
    outcome = scenarios.cut_for(lab, cluster, reference, 15)
    require_whole(outcome)
    assert outcome.statuses == [0]


def test_a_network_that_is_cut_until_the_node_counts_as_lost(lab, cluster, reference):
    outcome = scenarios.cut_for(lab, cluster, reference, NOTICED_S)
    require_whole(outcome)
    assert outcome.statuses == [0]
    scenarios.wait_for_nodes(lab, cluster, HEAD, *WORKERS)  # The autoscaler takes it back.


def test_a_driver_that_is_killed_and_submitted_again(lab, cluster, reference):
    outcome = scenarios.driver_killed(lab, cluster, reference)
    require_whole(outcome)
    assert outcome.statuses == [KILLED, 0]
    assert outcome.summary["reused"] >= scenarios.DISTURBED_AT


def test_a_worker_that_is_lost_and_not_replaced(lab, cluster, reference):
    outcome = scenarios.worker_lost(lab, cluster, reference)
    require_whole(outcome)
    assert outcome.statuses == [0]


def test_down_leaves_no_ray(lab, cluster):
    # One worker is off by now, and is told.
    done = hdsweep(lab, "cluster", "down", cluster)
    assert done.returncode == 1
    assert GPU_2 in done.stderr
    assert GPU_1 not in done.stderr.partition("error: ")[2]
    assert not scenarios.ray_processes(lab, HEAD)
    assert not scenarios.ray_processes(lab, WORKERS[0])
