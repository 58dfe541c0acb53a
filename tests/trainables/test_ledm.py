"""LEDM without its 22 GB array: the same numbers as the official way, on cases small enough for it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trainables.adaptation.features import (
    CACHED,
    Features,
    PixelGather,
    project_then_upsample,
)
from trainables.adaptation.ledm import (
    Ledm,
    StoppingRule,
    pixel_classifier,
    without_small_classes,
)
from trainables.execute import execute
from trainables.networks import build

SIDE = 16


@pytest.fixture(scope="module")
def maps():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, c, s, s, generator=generator) for c, s in ((8, 4), (6, 2), (4, 16))]


def full_size(maps):
    """Return features_NDHW as the official code stores them."""
    large = [F.interpolate(m, size=SIDE, mode="bilinear", align_corners=False) for m in maps]
    return torch.cat(large, 1)


def test_gathered_pixels_are_those_of_the_resized_maps(maps):
    image, row, column = (i.flatten() for i in torch.where(torch.ones(2, SIDE, SIDE)))
    expected = full_size(maps).permute(0, 2, 3, 1)[image, row, column]
    one_by_one = ([m[i : i + 1] for m in maps] for i in range(2))
    gathered = PixelGather(one_by_one, 2, SIDE)(image, row, column)
    torch.testing.assert_close(gathered, expected, atol=5e-7, rtol=0)


def test_pixels_read_many_at_a_time_are_those_read_one_by_one(maps):
    gather = PixelGather([maps], 2, SIDE)
    image, row, column = (i.flatten() for i in torch.where(torch.ones(2, SIDE, SIDE)))
    assert len(image) > 3 * CACHED
    each = zip(image.split(1), row.split(1), column.split(1), strict=True)
    expected = torch.cat([gather(*pixel) for pixel in each])
    assert torch.equal(gather(image, row, column), expected)


def test_projecting_first_is_the_same_as_resizing_first(maps):
    torch.manual_seed(0)
    layer = nn.Linear(18, 5)
    expected = layer(full_size(maps).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    got = project_then_upsample(maps, layer.weight, layer.bias, SIDE)
    torch.testing.assert_close(got, expected, atol=1.5e-6, rtol=0)


@pytest.mark.parametrize(
    ("features", "classes", "parameters"),
    [(4224, 2, 545_314), (4224, 34, 1_119_650), (1056, 2, 139_810), (1056, 34, 308_642)],
)
def test_parameters_of_the_classifier(features, classes, parameters):
    assert sum(p.numel() for p in pixel_classifier(features, classes).parameters()) == parameters


def test_normalisation_comes_after_the_activation():
    names = [type(layer).__name__ for layer in pixel_classifier(8, 2)]
    assert names == ["Linear", "ReLU", "BatchNorm1d"] * 2 + ["Linear"]


def test_initial_weights_of_the_classifier():
    torch.manual_seed(0)
    first = pixel_classifier(4224, 2)[0]
    assert first.weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert first.bias.abs().max() == 0


def test_a_class_of_few_pixels_is_ignored_in_that_image_only():
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    labels[0, 0, :3] = 1  # three pixels: too few
    labels[1, :, :4] = 1
    kept = without_small_classes(labels, 20)
    assert (kept[0, 0, :3] == 255).all()
    assert (kept[0] == 255).sum() == 3
    assert torch.equal(kept[1], labels[1])


def test_the_rule_stops_after_more_than_its_patience():
    rule = StoppingRule(first_epoch=4, patience=2)
    assert not any(rule.stops(3, loss) for loss in (0.1, 0.2, 0.3, 0.4, 0.5))
    losses = [0.5, 0.6, 0.4, 0.4, 0.5, 0.6]  # new minima at the first and third
    assert [rule.stops(4, loss) for loss in losses] == [False] * 5 + [True]


def test_the_rule_never_fires_while_the_loss_falls():
    rule = StoppingRule(first_epoch=0, patience=0)
    assert not any(rule.stops(0, 1 / n) for n in range(1, 50))


def test_features_leave_no_hook_behind(tiny):
    network = build(tiny.adm, 5).eval()
    features = Features(network, torch.randn(1, 3, SIDE, SIDE), steps=(50, 250), blocks=(0, 2))
    maps = features.maps(torch.randn(2, 3, SIDE, SIDE))
    assert len(maps) == 4
    assert not any(module._forward_hooks for module in network.modules())


def test_features_are_of_the_noised_image_and_share_the_noise(tiny):
    network = build(tiny.adm, 5).eval()
    features = Features(network, torch.randn(1, 3, SIDE, SIDE), steps=(50, 250), blocks=(2,))
    images = torch.randn(2, 3, SIDE, SIDE)
    together, alone = features.maps(images), features.maps(images[1:])
    torch.testing.assert_close(together[0][1:], alone[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def stored_pretraining(tiny, folder):
    spec = tiny.spec("hybrid")
    execute(spec, tiny.places(folder, "hybrid"))
    return spec, folder / "artifacts"


def test_the_loss_curve_is_that_of_the_full_size_array(tiny, tmp_path):
    spec, artifacts = stored_pretraining(tiny, tmp_path / "hybrid")
    ledm = tiny.spec("ledm", pretrained=spec)

    # In float64: Adam divides by the size of the gradient, which makes rounding in float32 large
    # wherever a gradient is near zero, in either way of gathering.
    def curve(run):
        run.classifier.double()
        while not run.done:
            run.advance()
        return [point.value for point in run.history]

    ours = Ledm(ledm, tiny.places(tmp_path / "ours", "ledm", artifacts))
    official = Ledm(ledm, tiny.places(tmp_path / "official", "ledm", artifacts))
    images, _ = official.target.batch(official.target.train)
    maps = [m.double() for m in official._features.maps(images)]
    ours._gather = PixelGather([maps], len(images), SIDE)
    pixels = full_size(maps).permute(0, 2, 3, 1)
    official._gather = lambda image, row, column: pixels[image, row, column]
    assert curve(ours) == pytest.approx(curve(official), abs=1e-5)


def test_predictions_are_those_of_the_full_size_array(tiny, tmp_path):
    spec, artifacts = stored_pretraining(tiny, tmp_path / "hybrid")
    run = Ledm(tiny.spec("ledm", pretrained=spec), tiny.places(tmp_path, "ledm", artifacts))
    while not run.done:
        run.advance()
    images, _ = run.target.batch(run.target.val)
    predicted = run._predict(images)
    pixels = full_size(run._features.maps(images)).permute(0, 2, 3, 1)
    with torch.no_grad():
        expected = run.classifier.eval()(pixels.reshape(-1, pixels.shape[-1])).argmax(1)
    agreement = (predicted.flatten() == expected).float().mean().item()
    assert agreement > 0.999  # ties within rounding apart


def test_the_iteration_limit_and_the_outcome(tiny, tmp_path):
    spec, artifacts = stored_pretraining(tiny, tmp_path / "hybrid")
    result = execute(tiny.spec("ledm", pretrained=spec), tiny.places(tmp_path, "ledm", artifacts))
    assert result.updates == 30
    assert 0 <= result.metrics["test_jaccard"] <= 100
