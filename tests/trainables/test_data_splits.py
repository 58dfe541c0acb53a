"""Splits: the sizes of method and paper, disjoint, and a function of ids and seed only."""

import numpy as np
import pytest

from trainables.data.feeding.splits import hold_out, split_target


def ids_of(count):
    return [f"image{i:04}" for i in range(count)]


@pytest.mark.parametrize(
    ("images", "val", "test"),
    [(200, 90, 90), (69, 24, 25), (100, 40, 40), (138, 59, 59)],
    ids=["PH2", "DermIS", "NIH", "Montgomery"],
)
def test_twenty_images_train_and_the_rest_is_halved(images, val, test):
    split = split_target(ids_of(images), [""] * images, train_images=20, split_seed=0)
    assert [len(part) for part in split] == [20, val, test]
    assert sorted(i for part in split for i in part) == list(range(images))


def test_an_official_training_part_is_kept_and_its_test_part_is_halved():
    official = ["train", "test"] * 20
    split = split_target(ids_of(40), official, train_images=20, split_seed=0)
    assert [len(part) for part in split] == [20, 10, 10]
    assert {official[i] for i in split.train} == {"train"}
    assert {official[i] for i in split.val + split.test} == {"test"}


def test_fewer_training_images_than_official_never_leak_into_the_test():
    official = ["train"] * 20 + ["test"] * 20
    split = split_target(ids_of(40), official, train_images=8, split_seed=0)
    assert [len(part) for part in split] == [8, 10, 10]
    assert min(split.val + split.test) >= 20


def test_the_order_of_the_file_does_not_matter():
    ids = ids_of(50)
    shuffled = [ids[i] for i in np.random.default_rng(1).permutation(50)]
    one = split_target(ids, [""] * 50, train_images=20, split_seed=0)
    other = split_target(shuffled, [""] * 50, train_images=20, split_seed=0)
    for here, there in zip(one, other, strict=True):
        assert [ids[i] for i in here] == [shuffled[i] for i in there]


def test_another_seed_is_another_split():
    splits = [
        split_target(ids_of(100), [""] * 100, train_images=20, split_seed=seed) for seed in (0, 1)
    ]
    assert set(splits[0].train) != set(splits[1].train)


@pytest.mark.parametrize(("images", "train"), [(21, 20), (10, 20), (2, 1)])
def test_a_dataset_too_small_to_validate_and_test_is_refused(images, train):
    with pytest.raises(ValueError, match=f"{train} training images"):
        split_target(ids_of(images), [""] * images, train_images=train, split_seed=0)


def test_the_smallest_split_has_one_image_to_validate_and_one_to_test():
    split = split_target(ids_of(22), [""] * 22, train_images=20, split_seed=0)
    assert [len(part) for part in split] == [20, 1, 1]


def test_a_tenth_is_held_out():
    train, held = hold_out(ids_of(566), 0.1, seed=0)
    assert (len(train), len(held)) == (509, 57)
    assert sorted(train + held) == list(range(566))


def test_no_fraction_holds_nothing_out_and_a_small_one_holds_out_one():
    assert hold_out(ids_of(9), 0, seed=0) == (tuple(range(9)), ())
    assert len(hold_out(ids_of(9), 0.01, seed=0)[1]) == 1


def test_the_hold_out_follows_the_seed():
    assert hold_out(ids_of(100), 0.1, seed=0) == hold_out(ids_of(100), 0.1, seed=0)
    assert hold_out(ids_of(100), 0.1, seed=0) != hold_out(ids_of(100), 0.1, seed=1)
