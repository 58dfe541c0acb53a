"""Checkpoints written beside the training: what they hold, when they are there, and failing ones."""

import threading

import pytest
import torch

from tests.trainables.interrupted import assert_same, outcome
from trainables import checkpoint
from trainables.execute import Session, execute
from trainables.writer import Writer, snapshot


def test_what_is_written_is_what_was_handed_over_whatever_is_trained_meanwhile():
    go, written = threading.Event(), []

    def write(update, state):
        assert go.wait(60)
        written.append((update, state))

    weights = torch.zeros(3)
    state = {"own": {"losses": [1.0], "weights": weights}, "rng": [1, [2, 3], None]}
    writer = Writer(write, beside=True)
    writer(7, state)
    weights += 1
    state["own"]["losses"].append(2.0)
    assert written == []
    go.set()
    writer.wait()
    ((update, kept),) = written
    assert update == 7
    assert kept["own"]["weights"].tolist() == [0, 0, 0]
    assert kept["own"]["losses"] == [1.0]
    assert kept["rng"] == [1, [2, 3], None]


def test_one_is_written_at_a_time_and_in_order():
    under_way, most, order = [], [], []

    def write(update, _state):
        under_way.append(update)
        most.append(len(under_way))
        order.append(update)
        under_way.remove(update)

    writer = Writer(write, beside=True)
    for update in range(20):
        writer(update, {})
    writer.wait()
    assert max(most) == 1
    assert order == list(range(20))


@pytest.mark.parametrize("ask", [lambda writer: writer.wait(), lambda writer: writer(2, {})])
def test_what_goes_wrong_beside_is_told_at_the_next_occasion_and_once(ask):
    def write(update, _state):
        if update == 1:
            raise OSError("no space left on device")

    writer = Writer(write, beside=True)
    writer(1, {})
    with pytest.raises(OSError, match="no space left"):
        ask(writer)
    writer.wait()


def test_a_snapshot_shares_no_memory_with_the_state():
    state = {"a": torch.ones(2), "b": [torch.zeros(1), ("c", torch.ones(1))]}
    copy = snapshot(state)
    for tensor in (state["a"], state["b"][0], state["b"][1][1]):
        tensor.fill_(9)
    assert copy["a"].tolist() == [1, 1]
    assert copy["b"][0].tolist() == [0]
    assert copy["b"][1][1].tolist() == [1]


@pytest.mark.parametrize("task", ["hybrid", "supervised"])
def test_a_run_left_while_a_checkpoint_is_written_goes_on_to_the_same_bits(
    tiny, tmp_path_factory, task
):
    spec = tiny.spec(task)
    unbroken, broken = (tiny.places(tmp_path_factory.mktemp(n), task) for n in ("a", "b"))
    execute(spec, unbroken)
    session = Session(spec, broken, checkpoint_seconds=0, beside=True)
    while session.run.update < 3:
        session.advance_for(0)
    session._writer.wait()  # Left without saving: what was begun at update 3 is all there is.
    assert checkpoint.saved_updates(broken.checkpoints)[-1] == 3
    session = Session(spec, broken, checkpoint_seconds=0, beside=True)
    assert session.resumed_at == 3
    while not session.advance_for(0).done:
        pass
    session.finish()
    assert_same(outcome(broken), outcome(unbroken))


def test_saving_returns_when_the_checkpoint_is_there(tiny, tmp_path):
    places = tiny.places(tmp_path, "hybrid")
    session = Session(tiny.spec("hybrid"), places, checkpoint_seconds=1e9, beside=True)
    session.advance_for(0)
    session.save()
    assert checkpoint.load_newest(places.checkpoints)["update"] == 1
