"""A run that is killed anywhere and started again ends with the bits of one never interrupted."""

import io
import random

import numpy as np
import pytest
import torch

from tests.trainables.interrupted import assert_same, killed_at, outcome
from trainables import registry
from trainables.execute import Session, execute
from trainables.pretraining.hybrid import HybridPretraining

TASKS = sorted(registry.TASKS)
NEEDS_PRETRAINING = {"finetune", "finetune_validation", "ledm"}


@pytest.fixture(scope="module")
def hybrid(tiny, tmp_path_factory):
    """Return the spec of a finished hybrid pretraining and the folder of its artifacts."""
    folder = tmp_path_factory.mktemp("hybrid")
    spec = tiny.spec("hybrid")
    execute(spec, tiny.places(folder, "hybrid"))
    return spec, folder / "artifacts"


@pytest.fixture
def given(tiny, hybrid, request, tmp_path_factory):
    """Return a spec of the task and a function that makes fresh places for it."""
    task = request.param
    source, artifacts = hybrid if task in NEEDS_PRETRAINING else (None, None)
    spec = tiny.spec(task, pretrained=source)
    return spec, lambda: tiny.places(tmp_path_factory.mktemp(task), task, artifacts)


@pytest.mark.parametrize("given", TASKS, indirect=True)
def test_killed_and_started_again_gives_the_same_bits(given):
    spec, fresh_places = given
    unbroken, broken = fresh_places(), fresh_places()
    result = execute(spec, unbroken)
    for update in (1, result.updates // 2, result.updates - 1):
        killed_at(update, spec, broken)
    execute(spec, broken)
    assert_same(outcome(broken), outcome(unbroken))


@pytest.mark.parametrize("given", TASKS, indirect=True)
def test_a_torn_newest_checkpoint_costs_an_update_and_no_bit(given):
    spec, fresh_places = given
    unbroken, broken = fresh_places(), fresh_places()
    execute(spec, unbroken)
    killed_at(4, spec, broken)
    newest = max(broken.checkpoints.glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert Session(spec, broken).run.update < int(newest.stem)
    execute(spec, broken)
    assert_same(outcome(broken), outcome(unbroken))


def test_finishing_twice_leaves_the_same_result(tiny, tmp_path):
    # A worker may be killed between the last checkpoint and the result.
    places = tiny.places(tmp_path, "hybrid")
    session = Session(tiny.spec("hybrid"), places, checkpoint_seconds=0)
    while not session.advance_for(0).done:
        pass
    session.finish()
    once = outcome(places)
    session.finish()
    assert_same(outcome(places), once)


def test_the_checkpoint_of_another_run_is_refused(tiny, tmp_path):
    places = tiny.places(tmp_path, "hybrid")
    session = Session(tiny.spec("hybrid"), places, checkpoint_seconds=0)
    session.advance_for(0)
    session.save()
    with pytest.raises(ValueError, match="offered to run"):
        Session(tiny.spec("hybrid", seed=1), places)


class NoisyHybrid(HybridPretraining):
    """A task whose loss also draws from the streams of Python and NumPy, as a plug-in may."""

    def loss_B(self, clean, labels, answer, snr_B):
        factor = random.random() + np.random.rand()
        return factor * super().loss_B(clean, labels, answer, snr_B)


def noisy(tiny, folder):
    training = tiny.training("hybrid").model_copy(update={"ema": True, "updates": 5})
    return NoisyHybrid(tiny.spec("hybrid", training=training), tiny.places(folder, "hybrid"))


def advanced(run, updates):
    while run.update < updates:
        run.advance()
    return run


def bits(run):
    """Return everything that a run has learnt, as bytes."""
    plain = {f"weights/{name}": tensor for name, tensor in run.network.state_dict().items()}
    average = {f"average/{name}": tensor for name, tensor in run.final_weights().items()}
    return {name: tensor.numpy().tobytes() for name, tensor in {**plain, **average}.items()}


def part(state, path):
    for name in path[:-1]:
        state = state[name]
    return state, path[-1]


def stored(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


STATES = {
    "torch stream": ("rng", "torch"),
    "numpy stream": ("rng", "numpy"),
    "python stream": ("rng", "python"),
    "position in the data": ("update",),
    "optimizer": ("own", "descent", "optimizer", "state"),
    "learning-rate schedule": ("own", "descent", "schedule"),
    "moving average": ("own", "descent", "ema"),
}


@pytest.fixture(scope="module")
def noisy_states(tiny, tmp_path_factory):
    fresh = noisy(tiny, tmp_path_factory.mktemp("noisy")).state_dict()
    half = advanced(noisy(tiny, tmp_path_factory.mktemp("noisy")), 2)
    saved = tmp_path_factory.mktemp("saved") / "state.pt"
    torch.save({"fresh": fresh, "half": half.state_dict()}, saved)
    return saved, bits(advanced(half, 5))


def resumed(tiny, tmp_path, state):
    run = noisy(tiny, tmp_path)
    run.load_state_dict(state)
    return bits(advanced(run, 5))


def test_the_whole_state_gives_the_same_bits(tiny, tmp_path, noisy_states):
    saved, expected = noisy_states
    state = torch.load(saved, weights_only=True)["half"]
    assert resumed(tiny, tmp_path, state) == expected


@pytest.mark.parametrize("left_out", STATES)
def test_leaving_one_state_out_is_noticed(tiny, tmp_path, noisy_states, left_out):
    # Reliability ablation: with this state as in a fresh run, the comparison above must fail.
    saved, expected = noisy_states
    states = torch.load(saved, weights_only=True)
    target, name = part(states["half"], STATES[left_out])
    source, _ = part(states["fresh"], STATES[left_out])
    assert stored(target[name]) != stored(source[name]), "the ablation must change something"
    target[name] = source[name]
    assert resumed(tiny, tmp_path, states["half"]) != expected
