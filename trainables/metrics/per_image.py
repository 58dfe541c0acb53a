"""What is kept of each test image: enough to score any selection of images again, exactly.

Statistics over images (which differences would other images show?) need the counts of every image,
and the mean IoU of a selection is not a mean of anything per image.

Units: pixels; scores in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from trainables.metrics import Accumulator, Jaccard, Miou

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("score", pa.float64()),  # In percent.
        ("both", pa.list_(pa.int64())),  # Pixels in prediction and truth, per counted class.
        ("either", pa.list_(pa.int64())),  # Pixels in prediction or truth, per counted class.
    ]
)


def write_image_counts(path: Path, ids: Sequence[str], each: Sequence[Accumulator]) -> None:
    """Write one row per image; of the Jaccard index the one counted class is the foreground."""
    both_either = [_pixels(counts) for counts in each]
    columns = {
        "id": list(ids),
        "score": [image_score(counts) for counts in each],
        "both": [list(both) for both, _ in both_either],
        "either": [list(either) for _, either in both_either],
    }
    # Arrow's own file: a report reads thousands of them, each in a fraction of a millisecond.
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_table(pa.table(columns, schema=SCHEMA))


def image_score(counts: Accumulator) -> float:
    """Return the score of a single image: its Jaccard index, or the mean IoU of what occurs in it.

    For looking at images; the mean IoU of a test set is not the mean of these.
    """
    scores = counts.compute()
    return scores["jaccard"] if "jaccard" in scores else scores["miou_present"]


def _pixels(counts: Accumulator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(counts, Jaccard):
        ((both, either),) = counts.counts
        return (both,), (either,)
    assert isinstance(counts, Miou)
    return counts.both_K, counts.either_K
