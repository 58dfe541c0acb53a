"""Bilinear resizing with a gradient of our own, beside PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from trainables.config import DeepLabConfig, SegFormerConfig
from trainables.networks import build
from trainables.networks.resizing import _Resizing, deterministic_resizing, resize_bilinear

SIZES = [((4, 6), (16, 24)), ((5, 7), (8, 13)), ((1, 1), (9, 9)), ((16, 16), (6, 5))]


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_values_and_gradient_are_those_of_pytorch(before, after):
    ours = torch.randn(2, 3, *before, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    resized = resize_bilinear(ours, after)
    expected = F.interpolate(theirs, size=after, mode="bilinear", align_corners=False)
    assert torch.equal(resized, expected)
    upstream = torch.randn_like(expected)
    resized.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_gradient_is_the_derivative():
    images = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resize_bilinear(x, (7, 6)), images)


def test_half_precision_keeps_its_dtype_and_adds_up_in_full():
    images = torch.randn(1, 2, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    resize_bilinear(images, (64, 64)).sum().backward()
    assert images.grad.dtype == torch.bfloat16
    # Each pixel has gone into (64 / 4)^2 others; adding 256 small terms in bfloat16 would not get there.
    torch.testing.assert_close(images.grad.float().sum(), torch.tensor(2 * 64.0**2))


def test_other_ways_of_resizing_are_left_alone():
    images = torch.randn(1, 2, 4, 4)
    ways = [
        {"scale_factor": 2.0},
        {"size": (8, 8)},
        {"size": (8, 8), "mode": "bilinear", "align_corners": True},
        {"size": (2, 2), "mode": "bilinear", "antialias": True},
        {"scale_factor": 2.0, "mode": "bilinear", "align_corners": False},
    ]
    for way in ways:
        with _Resizing():
            inside = F.interpolate(images, **way)
        assert torch.equal(inside, F.interpolate(images, **way)), way


def test_nothing_changes_on_a_cpu():
    with deterministic_resizing(torch.zeros(1)) as mode:
        assert mode is None


@pytest.mark.parametrize(
    "config",
    [
        DeepLabConfig(blocks=(1, 1, 1, 1), base_width=16, expansion=1, backbone="random"),
        SegFormerConfig(
            widths=(16, 16, 16, 16),
            depths=(1, 1, 1, 1),
            heads=(1, 1, 1, 1),
            decoder_channels=16,
            backbone="random",
        ),
    ],
    ids=["deeplab", "segformer"],
)
def test_a_network_of_a_library_gets_it(config):
    torch.manual_seed(0)
    network = build(config, 3).eval()
    images, t = torch.randn(2, 3, 64, 64), torch.zeros(2, dtype=torch.long)
    gradients = []
    for inside in (False, True):
        network.zero_grad()
        with _Resizing() if inside else deterministic_resizing(images):
            network(images, t).square().sum().backward()
        gradients.append([weight.grad.clone() for weight in network.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    names = set()

    class Recorded(_Resizing):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            answer = super().__torch_function__(func, types, args, kwargs)
            if func is F.interpolate:
                names.add(type(answer.grad_fn).__name__)
            return answer

    with Recorded():
        network(images, t)
    assert names == {"_BilinearBackward"}
