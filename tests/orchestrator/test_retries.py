"""The decision about a failed run, case by case: the rules as they stand in docs, not as they are coded."""

import pytest

from orchestrator.store.failures import Failure
from orchestrator.sweep.retries import RunRecord, decide

SHAPES = Failure("error", "shapes (3, 4) and (5, 6) do not match", site="trainables/a.py:1 in f")
SHAPES_AGAIN = Failure(
    "error", "shapes (1, 2) and (7, 8) do not match", site="trainables/a.py:1 in f"
)
DISK = Failure("error", "no space left on device", site="trainables/b.py:2 in g")
LOST = Failure("worker_lost", "the worker died")
FULL = Failure("out_of_memory", "CUDA out of memory")
AWAY = Failure("preempted", "the node is taken away")


def decided(record, failure, *, retries=2, micro_batch=None, nodes=0):
    return decide(record, failure, retries=retries, micro_batch=micro_batch, nodes=nodes)


@pytest.mark.parametrize("kind", ["diverged", "bad_data"])
def test_what_fails_the_same_way_each_time_is_not_tried_again(kind):
    decision = decided(RunRecord(tries=1), Failure(kind, "loss is nan"), retries=99)
    assert not decision.again
    assert decision.record.cause == Failure(kind, "loss is nan")


@pytest.mark.parametrize("failure", [DISK, LOST, FULL])
@pytest.mark.parametrize(
    ("tries", "retries", "again"),
    [(1, 0, False), (1, 1, True), (2, 1, False), (2, 2, True), (3, 2, False)],
)
def test_retries_are_further_attempts_after_the_first(failure, tries, retries, again):
    decision = decided(RunRecord(tries=tries), failure, retries=retries)
    assert decision.again is again
    assert decision.record.tries == tries


@pytest.mark.parametrize(
    ("nodes", "again"),
    [(0, False), (1, True), (2, False)],
    ids=["on one machine", "on one node of a cluster", "on two nodes"],
)
def test_an_error_that_came_twice_is_the_runs_own_unless_one_node_alone_has_it(nodes, again):
    first = decided(RunRecord(tries=1), SHAPES, nodes=min(nodes, 1))
    assert first.again
    assert decided(first.record, SHAPES_AGAIN, retries=99, nodes=nodes).again is again


def test_two_errors_of_different_kinds_are_each_tried_again():
    first = decided(RunRecord(tries=1), SHAPES)
    assert decided(first.record, DISK, retries=2).again


def test_a_preemption_never_counts():
    record = RunRecord(tries=1)
    for _ in range(50):
        decision = decided(record, AWAY, retries=0)
        assert decision.again
        record = RunRecord(tries=decision.record.tries + 1)  # Started again.
    assert record.tries == 1


def test_a_lost_worker_counts_only_where_the_run_got_no_further_than_before():
    first = decided(RunRecord(tries=1, reached=0.30), LOST, retries=0)
    assert first.again
    assert (first.record.tries, first.record.lost_at) == (0, 0.30)
    further = decided(RunRecord(tries=1, reached=0.60, lost_at=0.30), LOST, retries=0)
    assert further.again
    at_one_place = decided(RunRecord(tries=1, reached=0.305, lost_at=0.30), LOST, retries=0)
    assert not at_one_place.again
    back = decided(RunRecord(tries=1, reached=0.10, lost_at=0.30), LOST, retries=0)
    assert not back.again
    assert back.record.lost_at == 0.30


def test_memory_that_does_not_suffice_halves_what_is_in_it_until_nothing_can_be_halved():
    record, sizes = RunRecord(tries=1), []
    while (decision := decided(record, FULL, retries=0, micro_batch=13)).again:
        sizes.append(decision.record.micro_batch)
        record = RunRecord(
            tries=decision.record.tries + 1, micro_batch=decision.record.micro_batch
        )
    assert sizes == [7, 4, 2, 1]
    assert record.tries == 1


def test_a_batch_that_cannot_be_split_fails_like_any_other():
    decision = decided(RunRecord(tries=1), FULL, retries=0, micro_batch=None)
    assert not decision.again
    assert decision.record.micro_batch is None


def test_the_record_before_is_left_as_it_was():
    before = RunRecord(tries=1, reached=0.5)
    decided(before, LOST)
    assert before == RunRecord(tries=1, reached=0.5)
