"""Batches: scaling, and augmentations that move image and labels together."""

import numpy as np
import pytest
import torch

from trainables.data.datasets import all_datasets
from trainables.data.feeding.batches import augment, load_levels, looked_up, tensors_on
from trainables.data.info import Sample
from trainables.data.store import ArrowDataset, write_dataset

SIDE = 36


def stored(folder, images, labels):
    info = all_datasets()["shenzhen-like"]
    samples = [
        Sample(id=f"{i:03}", image_HWC=image, labels_HW=label)
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    prepared = write_dataset(folder, info, iter(samples), images.shape[1])
    return ArrowDataset.open(folder, fingerprint=prepared.fingerprint)


@pytest.fixture
def data(tmp_path):
    """Eight random images whose labels say where the red channel is bright."""
    images = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3)).astype(np.uint8)
    return stored(tmp_path / "data", images, (images[..., 0] > 127).astype(np.uint8))


def load(data, indices, augmentation="none", seeds=None, image_size=SIDE):
    levels = load_levels(
        data, indices, image_size=image_size, augmentation=augmentation, seeds=seeds
    )
    return tensors_on("cpu", *levels)


def test_levels_become_minus_one_to_one(tmp_path):
    images = np.zeros((1, 16, 16, 3), np.uint8)
    images[0, 0, 0] = (0, 51, 255)
    data = stored(tmp_path / "data", images, images[..., 0])
    found, labels = load(data, [0], image_size=16)
    # 2 * 51 / 255 - 1 = -0.6
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
    assert (found.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert (found.shape, labels.shape) == ((1, 3, 16, 16), (1, 16, 16))


def test_without_seeds_nothing_is_augmented(data):
    plain = load(data, [3, 1])
    for kept in (load(data, [3, 1], "flips"), load(data, [3, 1], "none", seeds=[5, 6])):
        torch.testing.assert_close(kept, plain, rtol=0, atol=0)
    np.testing.assert_array_equal(plain[1].numpy(), data.labels([3, 1]))


def test_flips_move_image_and_labels_together(data):
    images, labels = load(data, [2] * 64, "flips", seeds=range(64))
    assert torch.equal(labels, (images[:, 0] > 0).long())


def test_the_four_flips_are_equally_likely(data):
    image, labels = data.images([0])[0], data.labels([0])[0]
    mirrored = {(v, h): image[::v, ::h].tobytes() for v in (1, -1) for h in (1, -1)}
    counts = dict.fromkeys(mirrored.values(), 0)
    for seed in range(400):
        flipped, _ = augment(image, labels, SIDE, "flips", np.random.default_rng(seed))
        counts[flipped.tobytes()] += 1  # KeyError if it is none of the four
    # 100 expected of each, standard deviation 8.7.
    assert all(65 < count < 135 for count in counts.values())


def ramps(side):
    """Return an image whose red is the column and green the row, as levels up to 254."""
    levels = np.linspace(0, 254, side).round().astype(np.uint8)
    columns, rows = np.meshgrid(levels, levels)
    return np.stack([columns, rows, rows * 0], axis=2)


def test_each_border_moves_inwards_by_up_to_a_twentieth():
    side = 255  # one level per pixel: the level at a border is where the border was
    image, labels = ramps(side), np.zeros((side, side), np.uint8)
    shots = [
        augment(image, labels, 240, "border_crop", np.random.default_rng(seed))[0].astype(int)
        for seed in range(300)
    ]
    most = 0.05 * side
    for inwards in (
        [shot[120, 0, 0] for shot in shots],
        [254 - shot[120, -1, 0] for shot in shots],
        [shot[0, 120, 1] for shot in shots],
        [254 - shot[-1, 120, 1] for shot in shots],
    ):
        assert min(inwards) <= 1
        assert most - 2 <= max(inwards) <= most + 1
        assert np.mean(inwards) == pytest.approx(most / 2, abs=1)


def test_the_four_borders_are_independent():
    image, labels = ramps(255), np.zeros((255, 255), np.uint8)
    shots = [
        augment(image, labels, 240, "border_crop", np.random.default_rng(seed))[0].astype(int)
        for seed in range(300)
    ]
    borders = np.array([[s[120, 0, 0], s[120, -1, 0], s[0, 120, 1], s[-1, 120, 1]] for s in shots])
    correlation = np.corrcoef(borders.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.25


def test_a_crop_moves_image_and_labels_together(tmp_path):
    side = 288
    image = np.zeros((side, side, 3), np.uint8)
    image[90:200, 60:170] = 255
    data = stored(tmp_path / "data", image[None], (image[None, ..., 0] > 0).astype(np.uint8))
    images, labels = load(data, [0] * 20, "border_crop", seeds=range(20), image_size=256)
    # They agree but for the outline: images are sampled at pixel centres, labels at corners.
    differ = ((images[:, 0] > 0).long() != labels).sum((1, 2)).float()
    assert differ.max() <= 2 * (110 + 110)
    assert len({label.numpy().tobytes() for label in labels}) > 15


@pytest.mark.parametrize("augmentation", ["flips", "border_crop"])
def test_a_sample_depends_on_its_own_seed_only(data, augmentation):
    images, labels = load(data, [0, 1, 2], augmentation, seeds=[10, 11, 12], image_size=32)
    others, other_labels = load(data, [7, 1], augmentation, seeds=[99, 11], image_size=32)
    assert torch.equal(images[1], others[1])
    assert torch.equal(labels[1], other_labels[1])


def test_images_stored_with_a_margin_are_evaluated_whole(data):
    images, labels = load(data, [0], "border_crop", image_size=32)
    assert images.shape[-2:] == labels.shape[-2:] == (32, 32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(data.images([0])).permute(0, 3, 1, 2).float(),
        (32, 32),
        mode="bilinear",
        antialias=True,
    )
    # Two roundings to 8 bits, one per axis.
    torch.testing.assert_close(images, 2 * expected / 255 - 1, atol=2.1 / 255, rtol=0)


def test_seeds_must_be_one_per_image(data):
    with pytest.raises(ValueError, match="shorter"):
        load(data, [0, 1], "flips", seeds=[1])


def test_levels_looked_up_are_the_values_that_a_cpu_computes():
    # 2 v / 255 - 1, each step rounded to float32, as NumPy does it; on a GPU they are looked up.
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    labels = torch.zeros(1, 16, 16, dtype=torch.uint8)
    expected = np.arange(256, dtype=np.float32) * np.float32(2) / np.float32(255) - np.float32(1)
    on_cpu, _ = tensors_on("cpu", levels, labels)
    for images_BCHW in (on_cpu, looked_up(levels)):
        assert images_BCHW.is_contiguous()
        assert images_BCHW.shape == (1, 3, 16, 16)
        for channel in images_BCHW[0]:
            assert np.array_equal(channel.flatten().numpy(), expected)
