"""The order of images is a function of (seed, update), and epochs are permutations."""

import numpy as np
import pytest

from trainables.data.feeding.order import batch_at, batch_starts


def epoch_of(indices, batch, seed, epoch):
    updates = len(batch_starts(len(indices), batch))
    return [
        batch_at(indices, batch=batch, update=epoch * updates + i, seed=seed)[1]
        for i in range(updates)
    ]


@pytest.mark.parametrize(
    ("images", "batch", "sizes"),
    [
        (20, 12, [12, 8]),  # the fine-tuning of the paper: two updates per epoch
        (24, 12, [12, 12]),
        (25, 12, [12, 13]),  # one image alone would break batch normalisation
        (1, 12, [1]),
        (5, 12, [5]),
    ],
)
def test_batch_sizes_of_an_epoch(images, batch, sizes):
    assert [len(b) for b in epoch_of(np.arange(images), batch, 0, 0)] == sizes


@pytest.mark.parametrize(("images", "updates"), [(2594, 41), (566, 9), (30_000, 469)])
def test_updates_per_epoch_of_the_paper(images, updates):
    assert len(batch_starts(images, 64)) == updates


def test_every_epoch_sees_every_image_once_in_another_order():
    indices = np.arange(100, 137)
    first, second = (np.concatenate(epoch_of(indices, 8, 0, epoch)) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(indices)
    assert list(first) != list(second)


def test_another_seed_gives_another_order():
    one, two = (np.concatenate(epoch_of(np.arange(40), 8, seed, 0)) for seed in (0, 1))
    assert list(one) != list(two)
