"""Resuming LEDM where it is easiest to get wrong: past an epoch, and while the rule counts."""

import io

import pytest
import torch
from safetensors.torch import save_file

from tests.trainables.interrupted import assert_same, killed_at, outcome
from trainables.adaptation.ledm import Ledm
from trainables.execute import execute
from trainables.networks import build

PER_EPOCH = 8  # 8 images of 16 x 16 pixels in mini-batches of 256.
PATIENCE = 3


@pytest.fixture(scope="module")
def pretrained(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    save_file(build(tiny.adm, 5).state_dict(), folder / "weights.safetensors")
    return folder


@pytest.fixture(scope="module")
def spec(tiny):
    training = tiny.training("ledm").model_copy(
        update={
            "batch_pixels": 256,
            "first_stopping_epoch": 1,
            "patience_iterations": PATIENCE,
            "max_iterations": None,
        }
    )
    return tiny.spec("ledm", training=training, pretrained=tiny.spec("hybrid"))


@pytest.fixture
def fresh_places(tiny, pretrained, tmp_path_factory):
    return lambda: tiny.places(tmp_path_factory.mktemp("ledm"), "ledm", pretrained)


def test_killed_at_an_epoch_and_while_the_rule_counts(spec, fresh_places):
    unbroken, broken = fresh_places(), fresh_places()
    result = execute(spec, unbroken)
    assert result.updates > PER_EPOCH + PATIENCE + 1, "the rule must have counted and reset"
    for update in (PER_EPOCH, PER_EPOCH + 1, result.updates - PATIENCE, result.updates - 1):
        killed_at(update, spec, broken)
    execute(spec, broken)
    assert_same(outcome(broken), outcome(unbroken))


def test_a_run_that_had_stopped_trains_no_further(spec, fresh_places):
    run = finished(Ledm(spec, fresh_places()))
    again = Ledm(spec, fresh_places())
    again.load_state_dict(copied(run.state_dict()))
    assert again.done
    assert bits(again) == bits(run)


def finished(run):
    while not run.done:
        run.advance()
    return run


def copied(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def bits(run):
    weights = {n: t.numpy().tobytes() for n, t in run.classifier.state_dict().items()}
    return weights, run.update, [(p.step, p.value) for p in run.history]


STATES = {
    "classifier": ("own", "classifier"),
    "optimizer": ("own", "optimizer", "state"),
    "lowest loss": ("own", "lowest"),
    "mini-batches since": ("own", "since"),
    "losses not yet logged": ("own", "losses"),
    "position in the data": ("update",),
}


@pytest.fixture(scope="module")
def ended(spec, tiny, pretrained, tmp_path_factory):
    """Return the states of a fresh run and of one an iteration before its end, and that end."""
    places = tiny.places(tmp_path_factory.mktemp("ended"), "ledm", pretrained)
    run = Ledm(spec, places)
    states = [copied(run.state_dict())]
    while not run.done:
        states.append(copied(run.state_dict()))
        run.advance()
    return states[0], states[-1], bits(run), places


@pytest.mark.parametrize("left_out", [None, *STATES])
def test_only_the_whole_state_gives_the_same_end(spec, ended, left_out):
    # Reliability ablation: with one state as in a fresh run, the end must be another.
    fresh, last, expected, places = ended
    state = copied(last)
    if left_out is not None:
        target, source = state, fresh
        *path, name = STATES[left_out]
        for part in path:
            target, source = target[part], source[part]
        target[name] = copied(source)[name]
    run = Ledm(spec, places)
    run.load_state_dict(state)
    assert (bits(finished(run)) == expected) == (left_out is None)
