"""Our forward of the ADM's blocks against diffusers' own, and the layout of every map inside."""

from functools import partial

import pytest
import torch
from torch import nn

from tests.trainables.networks_given import filled
from trainables.config import AdmConfig, ComputeConfig
from trainables.networks import build
from trainables.networks.adm import AdmUNet, _unet
from trainables.networks.adm_blocks import AttentionBlock, ResidualBlock
from trainables.networks.base import HeadConv2d
from trainables.networks.training import TrainingNetwork

# Every kind of block: with and without attention, resampled, with a projected shortcut.
SMALL = AdmConfig(
    channels=32,
    multipliers=(1, 2, 2),
    blocks_per_level=1,
    attention_rates=(2, 4),
    head_channels=32,
    dropout=0.1,
)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def network(compute=None):
    torch.manual_seed(0)
    built = filled(build(SMALL, 5))
    return built if compute is None else (built, TrainingNetwork(built, compute))


def passed(forward, parameters, images=3, seed=1):
    """Return the outputs and all gradients of one pass, dropout included."""
    generator = torch.Generator().manual_seed(seed)
    noised = torch.randn(images, 3, 32, 32, generator=generator)
    torch.manual_seed(seed)
    outputs = forward(noised, torch.arange(images) * 7)
    (outputs * torch.randn(outputs.shape, generator=generator)).sum().backward()
    return [outputs.detach(), *(p.grad.clone() for p in parameters)]


# The 64 images are those from which on diffusers makes maps contiguous before it resamples them.
@pytest.mark.parametrize(("images", "training"), [(3, True), (3, False), (64, True)])
def test_by_default_a_pass_has_the_bits_of_diffusers(images, training):
    ours = network()
    theirs = _unet(SMALL, 5)
    theirs.load_state_dict({k.removeprefix("unet."): v for k, v in ours.state_dict().items()})
    assert [n for n, _ in ours.unet.named_parameters()] == [
        n for n, _ in theirs.named_parameters()
    ]
    results = [
        passed(forward, list(module.train(training).parameters()), images)
        for forward, module in (
            (ours, ours),
            (lambda x, t: theirs(x, t, return_dict=False)[0], theirs),
        )
    ]
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_one_layout_a_pass_has_the_values_of_the_default(layout):
    compute = ComputeConfig(one_layout=True, channels_last=layout == "channels-last")
    plain, (other, forward) = network().eval(), network(compute)  # Dropout draws in another order.
    expected = passed(plain, list(plain.parameters()))
    # Gradients of a bias before a normalisation are zero but for rounding.
    rounding = 1e-5 * max(each.abs().max().item() for each in expected)
    for got, wanted in zip(
        passed(forward, list(other.eval().parameters())), expected, strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=rounding)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_in_one_layout_every_map_and_gradient_has_it(layout, precision):
    compute = ComputeConfig(
        one_layout=True, channels_last=layout == "channels-last", precision=precision
    )
    module, forward = network(compute)
    other = []  # Names of what is in another layout.
    maps = set()

    def watch(name):
        def hook(_module, inputs, output):
            for what, value in (*(("in", value) for value in inputs), ("out", output)):
                if torch.is_tensor(value) and value.dim() == 4:
                    maps.add(f"{name} {what}")
                    seen(f"{name} {what}", value)
                    if value.requires_grad and not value.is_leaf:
                        value.register_hook(partial(seen, f"{name} {what} gradient"))

        return hook

    def seen(name, value):
        # The gradient of the outputs comes from outside, and that of a normalised map from the matrix
        # products of an attention, which have pixels as rows.
        if name in ("unet.conv_out out gradient", "unet out gradient", " out gradient") or (
            name.endswith("group_norm out gradient") and layout == "contiguous"
        ):
            return
        # A gradient may be a part of the channels of another one, and so may the padded head's maps.
        unit = 1 if layout == "channels-last" else 3
        whole = value.is_contiguous(memory_format=LAYOUTS[layout])
        part = name.endswith("gradient") or name in ("unet.conv_out out", "unet out", " out")
        if not (whole or (part and value.stride(unit) == 1)):
            other.append(name)

    for name, each in module.named_modules():
        each.register_forward_hook(watch(name))
    passed(forward, list(module.parameters()))
    blocks = [
        n for n, m in module.named_modules() if isinstance(m, ResidualBlock | AttentionBlock)
    ]
    assert {f"{name} out" for name in blocks} <= maps
    assert other == []


def test_a_head_of_padded_outputs_computes_what_it_did():
    plain = nn.Conv2d(32, 5, 3, padding=1)
    head = HeadConv2d.holding(plain, plain.weight, plain.bias)
    head.multiple = 8
    maps = torch.randn(2, 32, 8, 8)
    torch.testing.assert_close(head(maps), plain(maps))
    head(maps).square().sum().backward()
    plain(maps).square().sum().backward()
    torch.testing.assert_close(head.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(head.bias.grad, plain.bias.grad, rtol=1e-4, atol=1e-3)


def test_another_head_is_padded_too():
    module: AdmUNet = network()
    module.use_one_layout()
    module.replace_head(3)
    assert module.head.multiple == 8
    assert module(torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.long)).shape[1] == 3
