"""A node is avoided once one run after another failed there, and no sooner."""

from orchestrator.cluster.nodes import NodeRecord


def test_three_runs_in_a_row_make_a_bad_node():
    nodes = NodeRecord()
    assert not nodes.failed("a", "one")
    assert not nodes.failed("a", "two")
    assert not nodes.failed("b", "three")
    assert nodes.avoided == frozenset()
    assert nodes.failed("a", "three")
    assert nodes.avoided == {"a"}
    assert not nodes.failed("a", "four")  # It is news once.


def test_a_success_in_between_clears_a_node():
    nodes = NodeRecord()
    for key in ("one", "two"):
        nodes.failed("a", key)
    nodes.succeeded("a")
    assert not nodes.failed("a", "three")
    assert nodes.avoided == frozenset()


def test_one_run_that_fails_again_and_again_is_no_fault_of_its_node():
    nodes = NodeRecord()
    for _ in range(5):
        nodes.failed("a", "one")
    assert nodes.avoided == frozenset()
    assert nodes.failed_on("one") == {"a"}
    assert nodes.failed_on("two") == frozenset()
