"""DeepLabV3 against torchvision's builder and method.md 3.3."""

import pytest
import torch
from torchvision.models.segmentation import deeplabv3_resnet50

from trainables.config import DeepLabConfig
from trainables.networks import build

T = torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("classes", "expected"), [(2, 39_633_986), (19, 39_638_355), (34, 39_642_210)]
)
def test_default_size_has_the_parameters_of_resnet_50(classes, expected):
    with torch.device("meta"):
        network = build(DeepLabConfig(), classes)
    assert sum(p.numel() for p in network.parameters()) == expected


@torch.no_grad()
def test_default_size_equals_torchvisions_with_the_same_weights():
    torch.manual_seed(0)
    theirs = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=2).eval()
    ours = build(DeepLabConfig(), 2).eval()
    ours.model.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    expected = theirs((images * 0.5 + 0.5 - mean) / std)["out"]
    torch.testing.assert_close(ours(images, T), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_output_stride_is_8_whatever_the_size():
    config = DeepLabConfig(blocks=(1, 2, 1, 1), base_width=8, expansion=2, atrous_rates=(1, 2, 3))
    network = build(config, 2).eval()
    features = network.encoder(torch.zeros(1, 3, 64, 64))["out"]
    assert features.shape == (1, 1024, 8, 8)


@torch.no_grad()
def test_the_noise_level_is_ignored():
    config = DeepLabConfig(blocks=(1, 1, 1, 1), base_width=8, expansion=1, atrous_rates=(1, 2, 3))
    network, images = build(config, 2).eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(network(images, T), network(images, T + 900))
