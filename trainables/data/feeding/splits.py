"""Which images train, validate and test: a function of sample ids and a seed.

Ids are sorted before they are permuted, so the order of a file changes nothing. The seed of a
split is not the seed of a run: all methods and seeds meet the same split.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trainables.bounds import FEWEST_EVALUATED
from trainables.keys import derive_seed


class Split(NamedTuple):
    """Positions in the dataset of each part."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


def split_target(
    ids: Sequence[str], official_split: Sequence[str], *, train_images: int, split_seed: int
) -> Split:
    """Return `train_images` images to train on; half of the rest, rounded down, to validate.

    Where the release fixes a split, training images come from its `train` part only and the others
    from its `test` part only.

    Raises:
        ValueError: if there are not enough images for this, and one more each to validate and test.
    """
    shuffled = _permuted(ids, split_seed, "split")
    candidates = [i for i in shuffled if official_split[i] != "test"]
    train = candidates[:train_images]
    if "test" in official_split:
        rest = [i for i in shuffled if official_split[i] == "test"]
    else:
        rest = candidates[train_images:]
    if len(train) < train_images or len(rest) < FEWEST_EVALUATED:
        raise ValueError(
            f"{train_images} training images and at least one each to validate and test are "
            f"needed, but {len(train)} can be trained on and {len(rest)} are left"
        )
    val = rest[: len(rest) // 2]
    return Split(tuple(train), tuple(val), tuple(rest[len(val) :]))


def hold_out(
    ids: Sequence[str], fraction: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the positions of the images to train on and of those held out, both ascending.

    A fraction above 0 holds out at least one image.
    """
    count = max(1, round(len(ids) * fraction)) if fraction > 0 else 0
    shuffled = _permuted(ids, seed, "hold out")
    return tuple(sorted(shuffled[count:])), tuple(sorted(shuffled[:count]))


def _permuted(ids: Sequence[str], seed: int, purpose: str) -> list[int]:
    """Return positions, ordered by a permutation of the sorted ids."""
    by_id = sorted(range(len(ids)), key=lambda i: ids[i])
    order = np.random.default_rng(derive_seed(seed, purpose)).permutation(len(ids))
    return [by_id[i] for i in order]
