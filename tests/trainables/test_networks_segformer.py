"""SegFormer against the published facts of method.md 3.4."""

import pytest
import torch

from trainables.config import SegFormerConfig
from trainables.networks import build

T = torch.zeros(2, dtype=torch.int64)
SMALL = SegFormerConfig(widths=(16, 32, 40, 64), depths=(1, 2, 1, 1), decoder_channels=32)


def size(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("config", "classes", "expected"),
    [
        (SegFormerConfig(), 2, 47_224_002),
        (SegFormerConfig(), 19, 47_237_075),
        (SegFormerConfig(), 34, 47_248_610),
        (SegFormerConfig(decoder_channels=256), 2, 44_598_466),
    ],
)
def test_default_size_has_the_parameters_of_b3(config, classes, expected):
    with torch.device("meta"):
        network = build(config, classes)
    assert size(network.encoder) == 44_072_128
    assert size(network) == expected


def test_stochastic_depth_grows_linearly_to_its_largest_value():
    network = build(SMALL, 2)
    rates = [
        getattr(b.drop_path, "drop_prob", 0.0) for s in network.encoder.stages for b in s.blocks
    ]
    assert rates == pytest.approx([0.0, 0.025, 0.05, 0.075, 0.1])


@torch.no_grad()
def test_the_encoder_sees_normalised_images():
    network = build(SMALL, 2).eval()
    seen = []
    network.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    # Red 0.485 is the ImageNet mean, green 1 and blue 0 are the ends of the range.
    colour = torch.tensor([2 * 0.485 - 1, 1.0, -1.0])[None, :, None, None].expand(2, 3, 32, 32)
    network(colour, T)
    expected = torch.tensor([0.0, (1 - 0.456) / 0.224, -0.406 / 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_quarter_resolution_logits_are_resized_bilinearly():
    network = build(SMALL, 2).eval()
    quarter = []
    network.head.register_forward_hook(lambda _m, _a, output: quarter.append(output))
    images = torch.randn(2, 3, 64, 64)
    answer = network(images, T)
    assert quarter[0].shape == (2, 2, 16, 16)
    # Four times larger: output column 10 has its centre at (10 + 0.5) / 4 - 0.5 = 2.125.
    column = 0.875 * quarter[0][..., 2] + 0.125 * quarter[0][..., 3]
    row = 0.875 * column[..., 2] + 0.125 * column[..., 3]
    torch.testing.assert_close(answer[..., 10, 10], row)


@torch.no_grad()
def test_the_noise_level_is_ignored():
    network, images = build(SMALL, 2).eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(network(images, T), network(images, T + 900))
