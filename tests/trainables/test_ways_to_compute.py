"""Each way in which the arithmetic may be done: its key, its bits after a kill, nearly the same loss."""

import pytest
import torch
from pydantic import ValidationError

from tests.trainables.interrupted import assert_same, killed_at, outcome
from trainables.config import (
    ADDED_TO_COMPUTE,
    ComputeConfig,
    DeepLabConfig,
    RunSpec,
    SegFormerConfig,
)
from trainables.evaluation import segment_with
from trainables.execute import execute
from trainables.keys import content_key
from trainables.seeding import set_numerics

WAYS = {
    "one layout": {"one_layout": True},
    "one layout, channels-last": {"one_layout": True, "channels_last": True},
    "one layout, channels-last, bf16": {
        "one_layout": True,
        "channels_last": True,
        "precision": "bf16",
    },
    "fused AdamW": {"fused_adamw": True},
    "TF32 in matrix products": {"tf32_matmul": True},
    "fused normalisation": {"one_layout": True, "channels_last": True, "fused_norm": True},
    "evaluation in bf16": {"precision": "bf16", "bf16_evaluation": True},
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
    default = tiny.spec("supervised")
    explicit = tiny.spec(
        "supervised", compute=ComputeConfig(**{name: getattr(ComputeConfig(), name)})
    )
    assert explicit.key == default.key
    assert not default.compute.model_dump()[name]
    needed = {
        "bf16_evaluation": {"precision": "bf16"},
        "fused_norm": {"one_layout": True, "channels_last": True},
    }
    base = needed.get(name, {})
    keys = {
        tiny.spec("supervised", compute=ComputeConfig(**base, **way)).key
        for way in ({}, {name: True})
    }
    assert len(keys) == 2


READ = {  # Settings that a run of a kind reads, of those that some run does not.
    ("adm", "hybrid"): {"compile", "channels_last", "one_layout", "fused_adamw", "fused_norm"},
    ("adm", "finetune"): {
        *("compile", "channels_last", "one_layout", "fused_adamw", "fused_norm"),
        "bf16_evaluation",
    },
    ("adm", "ledm"): set(),
    ("deeplab", "supervised"): {"compile", "channels_last", "fused_adamw", "bf16_evaluation"},
    ("segformer", "finetune"): {"compile", "channels_last", "fused_adamw", "bf16_evaluation"},
}
BESIDES = {
    "bf16_evaluation": {"precision": "bf16"},
    "fused_norm": {"one_layout": True, "channels_last": True},
}


@pytest.mark.parametrize(("family", "task"), READ)
def test_what_a_run_does_not_read_is_no_part_of_its_key(tiny, family, task):
    networks = {
        "adm": tiny.adm,
        "deeplab": DeepLabConfig(backbone="random"),
        "segformer": SegFormerConfig(backbone="random"),
    }

    def key(**compute):
        spec = tiny.spec(task, network=networks[family], compute=ComputeConfig(**compute))
        return spec.key

    moved = {
        name
        for name in READ["adm", "finetune"]
        for base in [BESIDES.get(name, {})]
        if key(**base, **{name: True}) != key(**base)
    }
    assert moved == READ[family, task]


def test_each_way_to_compile_has_a_key_and_none_is_the_key_of_compiling_as_it_was(tiny):
    keys = [
        tiny.spec("hybrid", compute=ComputeConfig(compile=way)).key
        for way in (False, True, "reduce-overhead")
    ]
    content = tiny.spec("hybrid").model_dump(mode="json")
    for name in ADDED_TO_COMPUTE:
        del content["compute"][name]
    assert content_key(content) == keys[0]
    content["compute"]["compile"] = True
    assert len({*keys, content_key(content)}) == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bf16_evaluation": True}, "bf16_evaluation needs compute.precision bf16, got tf32"),
        (
            {"fused_norm": True, "one_layout": True},
            "fused_norm needs .* and compute.channels_last",
        ),
        (
            {"fused_norm": True, "one_layout": True, "channels_last": True, "compile": True},
            "fused_norm contradicts compute.compile",
        ),
        ({"precision": "fp32", "tf32_matmul": True}, "tf32_matmul contradicts .*precision fp32"),
    ],
)
def test_a_run_that_contradicts_itself_is_refused(tiny, fields, message):
    with pytest.raises(ValidationError, match=message):
        RunSpec.model_validate(
            tiny.spec("hybrid")
            .model_copy(update={"compute": ComputeConfig(**fields)})
            .model_dump()
        )


@pytest.mark.parametrize("allowed", [False, True])
def test_matrix_products_round_their_inputs_only_where_asked_for(allowed):
    set_numerics(ComputeConfig(tf32_matmul=allowed))
    try:
        assert torch.backends.cuda.matmul.allow_tf32 == allowed
    finally:
        set_numerics(ComputeConfig())


@pytest.mark.parametrize("bf16", [False, True])
def test_evaluation_is_in_bfloat16_only_where_asked_for(bf16):
    class Watched(torch.nn.Conv2d):
        def forward(self, images, t):
            assert t.tolist() == [7, 7]
            self.seen = super().forward(images)
            return self.seen

    network = Watched(3, 2, 1)
    predict = segment_with(network, timestep=7, device="cpu", bf16=bf16)
    assert predict(torch.zeros(2, 3, 4, 4)).shape == (2, 4, 4)
    assert network.seen.dtype == (torch.bfloat16 if bf16 else torch.float32)
