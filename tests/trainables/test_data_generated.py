"""The generated families: the same everywhere, hard enough, and really shifted."""

import numpy as np
import pytest

from trainables.data.datasets import all_datasets
from trainables.data.stand_ins.generated import RECIPES, generate

FAMILIES = {
    "isic2018-like": ("ph2-like", "dermis-like"),
    "shenzhen-like": ("nih-like", "montgomery-like"),
    "celebamask_hq-like": ("ffhq34-like",),
}
BINARY = [name for name in RECIPES if name not in ("celebamask_hq-like", "ffhq34-like")]


def arrays(name, count=40, side=32):
    samples = list(generate(name, count=count, side=side))
    images = np.stack([sample.image_HWC for sample in samples]).astype(float)
    return images, np.stack([sample.labels_HW for sample in samples])


@pytest.fixture(scope="module")
def drawn():
    return {name: arrays(name) for name in RECIPES}


def test_every_dataset_of_the_paper_has_a_stand_in():
    real = {name for name, info in all_datasets().items() if not info.generated}
    assert {f"{name}-like" for name in real} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_drawing_again_gives_the_same(name):
    for one, other in zip(
        generate(name, count=3, side=24), generate(name, count=3, side=24), strict=True
    ):
        np.testing.assert_array_equal(one.image_HWC, other.image_HWC)
        np.testing.assert_array_equal(one.labels_HW, other.labels_HW)


@pytest.mark.parametrize("name", RECIPES)
def test_more_images_leave_the_first_as_they_were(name):
    few, more = (list(generate(name, count=count, side=16)) for count in (2, 4))
    assert [sample.id for sample in few] == [sample.id for sample in more[:2]]
    np.testing.assert_array_equal(few[1].image_HWC, more[1].image_HWC)


def test_another_seed_draws_other_images():
    one, other = (next(generate("ph2-like", count=1, side=16, seed=seed)) for seed in (0, 1))
    assert (one.image_HWC != other.image_HWC).any()


@pytest.mark.parametrize("name", RECIPES)
def test_every_class_is_drawn_and_no_other(name, drawn):
    assert set(np.unique(drawn[name][1])) == set(range(len(all_datasets()[name].classes)))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("side", [16, 64])
def test_any_side_shows_the_same_kind_of_scene(name, side, drawn):
    images, labels = arrays(name, count=10, side=side)
    reference_images, reference_labels = (part[:10] for part in drawn[name])
    assert images.shape == (10, side, side, 3)
    assert images.mean() == pytest.approx(reference_images.mean(), abs=6)
    assert (labels > 0).mean() == pytest.approx((reference_labels > 0).mean(), abs=0.03)


@pytest.mark.parametrize("name", BINARY)
def test_no_threshold_finds_the_foreground(name, drawn):
    images, labels = drawn[name]
    grey, truth = images.mean(3), labels == 1
    scores = []
    for threshold in range(0, 256, 8):
        dark = grey < threshold
        union = np.maximum((dark | truth).sum((1, 2)), 1)
        scores.append((dark & truth).sum((1, 2)) / union)
    # Even if the best threshold of each image were known.
    assert np.max(scores, axis=0).mean() < 0.7


def appearance(images):
    """Return features of images: mean colours, contrast, fine detail."""
    grey = images.mean(3)
    detail = np.abs(np.diff(grey, axis=2)).mean((1, 2))
    return np.column_stack([images.mean((1, 2)), grey.std((1, 2)), detail])


def shift(one, other):
    """Return the largest distance between means of a feature, in standard deviations."""
    one, other = appearance(one), appearance(other)
    spread = np.sqrt((one.var(0) + other.var(0)) / 2)
    return np.abs((one.mean(0) - other.mean(0)) / spread).max()


@pytest.mark.parametrize(
    ("one", "other"),
    [(source, target) for source, targets in FAMILIES.items() for target in targets]
    + [targets for targets in FAMILIES.values() if len(targets) == 2],
)
def test_a_target_looks_different_from_its_source_and_its_sibling(one, other, drawn):
    assert shift(drawn[one][0], drawn[other][0]) > 0.8


def test_source_and_target_faces_have_different_classes():
    source, target = (all_datasets()[name] for name in ("celebamask_hq-like", "ffhq34-like"))
    assert (len(source.classes), len(target.classes)) == (8, 12)


@pytest.mark.parametrize(("count", "train"), [(40, 20), (60, 20), (39, 0)])
def test_ffhq_like_fixes_twenty_training_images_where_there_are_enough(count, train):
    splits = [sample.split for sample in generate("ffhq34-like", count=count, side=16)]
    assert splits.count("train") == train
    assert splits.count("test") == (count - train if train else 0)
