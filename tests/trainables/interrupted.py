"""Runs that are killed, and what a run leaves, for comparing two of them to the last bit."""

import json
import os
import signal

import torch
from safetensors.torch import load_file

from trainables.execute import Session


def killed_at(update, spec, places):
    """Run in a child process that checkpoints every update and kills itself at `update`."""
    child = os.fork()
    if child == 0:
        session = Session(spec, places, checkpoint_seconds=0)
        while session.run.update < update:
            session.advance_for(0)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def outcome(places):
    """Return what a run leaves: the bytes of its weights, and everything measured."""
    record = json.loads((places.artifacts / "result.json").read_text())
    history = [(name, step, value) for name, step, value, _ in record["history"]]
    weights = load_file(places.artifacts / "weights.safetensors")
    raw = {name: tensor.reshape(-1).view(torch.uint8) for name, tensor in weights.items()}
    return raw, record["updates"], record["metrics"], history


def assert_same(one, other):
    weights, *measured = one
    assert weights.keys() == other[0].keys()
    for name, raw in weights.items():
        assert torch.equal(raw, other[0][name]), name
    assert measured == list(other[1:])
