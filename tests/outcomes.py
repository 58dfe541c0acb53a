"""What a run has left, for comparing two of them to the last bit."""

import json

import torch
from safetensors.torch import load_file


def outcome(places):
    """Return what a run leaves: its weights, and everything measured."""
    record = json.loads((places.artifacts / "result.json").read_text())
    history = [(name, step, value) for name, step, value, _ in record["history"]]
    return load_file(places.artifacts / "weights.safetensors"), record["metrics"], history


def assert_same(one, other):
    weights, metrics, history = one
    assert weights.keys() == other[0].keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, other[0][name]), name
    assert (metrics, history) == other[1:]
