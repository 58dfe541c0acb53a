"""Which images make up which batch: a function of seed and position, with no state to save."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from trainables.keys import derive_seed


def batch_starts(images: int, batch: int) -> list[int]:
    """Return where each batch of an epoch starts. The last one may be smaller, but never one image.

    Batch normalisation cannot be trained on a single image, so a single image left over joins the
    batch before it.
    """
    starts = list(range(0, images, batch))
    if len(starts) > 1 and images - starts[-1] == 1:
        starts.pop()
    return starts


def batch_at(
    indices: NDArray[np.int64], *, batch: int, update: int, seed: int
) -> tuple[int, NDArray[np.int64]]:
    """Return the epoch of `update` and the dataset indices of its batch.

    Every epoch is a permutation of `indices`, drawn from (seed, epoch).
    """
    starts = batch_starts(len(indices), batch)
    epoch, position = divmod(update, len(starts))
    order = np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(indices)
    end = starts[position + 1] if position + 1 < len(starts) else len(indices)
    return epoch, order[starts[position] : end]


def usual_sizes(images: int, batch: int, micro_batch: int | None) -> frozenset[int]:
    """Return how many images forward passes have, of those that are a tenth of an epoch's passes or more.

    Args:
        images: of an epoch.
        micro_batch: images per pass, at most; None passes whole batches.
    """
    starts = batch_starts(images, batch)
    passes: Counter[int] = Counter()
    for start, end in zip(starts, [*starts[1:], images], strict=True):
        size = micro_batch or end - start
        passes.update(min(size, end - first) for first in range(start, end, size))
    return frozenset(size for size, times in passes.items() if 10 * times >= passes.total())
