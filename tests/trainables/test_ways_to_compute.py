"""Each way in which the arithmetic may be done: its key, its bits after a kill, nearly the same loss."""

import pytest

from tests.trainables.interrupted import assert_same, killed_at, outcome
from trainables.config import ADDED_TO_COMPUTE, ComputeConfig
from trainables.execute import execute

WAYS = {
    "one layout": {"one_layout": True},
    "one layout, channels-last": {"one_layout": True, "channels_last": True},
    "one layout, channels-last, bf16": {
        "one_layout": True,
        "channels_last": True,
        "precision": "bf16",
    },
}


@pytest.fixture(scope="module")
def plain_loss(tiny, tmp_path_factory):
    places = tiny.places(tmp_path_factory.mktemp("plain"), "hybrid")
    return execute(tiny.spec("hybrid"), places).metrics["final_loss"]


@pytest.mark.parametrize("way", WAYS)
def test_killed_and_started_again_gives_the_same_bits_and_nearly_the_same_loss(
    tiny, tmp_path_factory, plain_loss, way
):
    spec = tiny.spec("hybrid", compute=ComputeConfig(**WAYS[way]))
    unbroken, broken = (tiny.places(tmp_path_factory.mktemp(n), "hybrid") for n in ("a", "b"))
    result = execute(spec, unbroken)
    for update in (1, result.updates - 1):
        killed_at(update, spec, broken)
    execute(spec, broken)
    assert_same(outcome(broken), outcome(unbroken))
    assert result.metrics["final_loss"] == pytest.approx(plain_loss, rel=0.1)


def test_every_way_is_tried():
    assert {name for way in WAYS.values() for name in way} >= set(ADDED_TO_COMPUTE)


@pytest.mark.parametrize("name", ADDED_TO_COMPUTE)
def test_a_way_has_a_key_of_its_own_and_the_default_keeps_the_key_it_had(tiny, name):
    default = tiny.spec("hybrid")
    explicit = tiny.spec("hybrid", compute=ComputeConfig(**{name: getattr(ComputeConfig(), name)}))
    assert explicit.key == default.key
    assert not default.compute.model_dump()[name]
    assert tiny.spec("hybrid", compute=ComputeConfig(**{name: True})).key != default.key
