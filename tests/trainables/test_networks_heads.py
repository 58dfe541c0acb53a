"""Changing the last layer, and its precision: the same promises by all three families."""

import pytest
import torch

from trainables.config import AdmConfig, DeepLabConfig, SegFormerConfig
from trainables.networks import build

FAMILIES = {
    "adm": AdmConfig(
        channels=32, multipliers=(1, 2), blocks_per_level=1, attention_rates=(2,), head_channels=32
    ),
    "deeplab": DeepLabConfig(
        blocks=(1, 1, 1, 1), base_width=8, expansion=1, atrous_rates=(1, 2, 3)
    ),
    "segformer": SegFormerConfig(
        widths=(16, 32, 40, 64), depths=(1, 1, 1, 1), decoder_channels=32
    ),
}


@pytest.fixture(params=FAMILIES)
def network(request):
    torch.manual_seed(0)
    return build(FAMILIES[request.param], 5).eval()


@pytest.fixture
def batch():
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return images, torch.zeros(2, dtype=torch.int64)


@torch.no_grad()
def test_answers_at_full_resolution(network, batch):
    assert network.outputs == 5
    assert network(*batch).shape == (2, 5, 32, 32)


@torch.no_grad()
def test_a_new_head_is_random_and_leaves_the_rest(network, batch):
    before = {n: p.clone() for n, p in network.state_dict().items() if network.HEAD not in n}
    network.replace_head(7)
    assert network.outputs == 7
    assert network(*batch).shape == (2, 7, 32, 32)
    assert network.head.weight.std() > 0
    torch.testing.assert_close({n: network.state_dict()[n] for n in before}, before)


def test_a_new_head_has_the_weights_of_a_fresh_pytorch_layer(network):
    old = network.head
    torch.manual_seed(3)
    network.replace_head(4)
    torch.manual_seed(3)
    fresh = torch.nn.Conv2d(old.in_channels, 4, old.kernel_size)
    assert torch.equal(network.head.weight, fresh.weight)
    assert torch.equal(network.head.bias, fresh.bias)


@torch.no_grad()
def test_outputs_that_are_kept_compute_what_they_did(network, batch):
    network.replace_head(5)
    before = network(*batch)
    network.keep_outputs(3)
    assert network.outputs == 2
    torch.testing.assert_close(network(*batch), before[:, 3:])


def test_keeping_no_output_is_refused(network):
    with pytest.raises(ValueError, match="cannot keep the outputs from 5 on, there are 5"):
        network.keep_outputs(5)


def test_a_changed_head_can_be_trained_and_stored(network, batch):
    network.replace_head(5)
    network.keep_outputs(2)
    network(*batch).sum().backward()
    assert network.head.weight.grad is not None
    assert network.state_dict()[f"{network.HEAD}.weight"].shape[0] == 3


@torch.no_grad()
def test_under_bf16_autocast_the_head_keeps_full_precision(network, batch):
    network.replace_head(5)
    with torch.autocast("cpu", torch.bfloat16):
        answer = network(*batch)
    assert answer.dtype == torch.float32
    assert not torch.equal(answer, answer.bfloat16().float())
    inputs = []
    network.head.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    outputs = []
    network.head.register_forward_hook(lambda _module, _args, output: outputs.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        network(*batch)
    head = network.head
    exact = torch.nn.functional.conv2d(
        inputs[0].float(), head.weight, head.bias, padding=head.padding
    )
    torch.testing.assert_close(outputs[0], exact)


@torch.no_grad()
def test_under_bf16_autocast_the_rest_is_reduced(network, batch):
    dtypes = set()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module is not network.head:
            module.register_forward_hook(lambda _m, _a, output: dtypes.add(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        network(*batch)
    assert dtypes == {torch.bfloat16}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_builds_the_same_network(family):
    def weights(seed):
        torch.manual_seed(seed)
        return build(FAMILIES[family], 2).state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@torch.no_grad()
def test_under_bf16_autocast_the_adm_also_normalises_for_its_head_in_full_precision(batch):
    network = build(FAMILIES["adm"], 5).eval()
    seen = {}
    network.unet.conv_norm_out.register_forward_pre_hook(
        lambda _, args: seen.update(trunk=args[0])
    )
    network.head.register_forward_pre_hook(lambda _, args: seen.update(head=args[0]))
    with torch.autocast("cpu", torch.bfloat16):
        network(*batch)
    norm = network.unet.conv_norm_out
    normalised = torch.nn.functional.group_norm(
        seen["trunk"].float(), 32, norm.weight, norm.bias, eps=1e-5
    )
    assert torch.equal(seen["head"], torch.nn.functional.silu(normalised))
