"""A target dataset as every adaptation sees it: its split, its batches, its score, its pictures.

The test part is read by `score_test` alone, once, at the end of a run; where hyperparameters are tuned,
there is none, and its images cannot be read.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainables.atomic_files import write_atomically
from trainables.config import DatasetRef
from trainables.data.feeding.batches import Levels, load_levels, tensors_on
from trainables.data.feeding.splits import split_target
from trainables.data.store import ArrowDataset
from trainables.evaluation import Predict, score, score_each, total
from trainables.metrics.per_image import image_score, write_image_counts
from trainables.pictures import write_predictions

WORST, MIDDLE = 4, 4  # Test images in the prediction picture: the worst, and around the median.


class Target:
    """The images, labels and split of one target dataset.

    Args:
        folder: the prepared dataset.
        ref: what the run expects to find there.
        train_images: labelled images to train on.
        split_seed: decides the split; the same for all methods and seeds.
        tested: False leaves the test part out for good.
        device: that predictions are computed on.

    Raises:
        DatasetChangedError: if the prepared dataset is not the one that was planned.
        ValueError: if the dataset is too small for this split.
    """

    def __init__(
        self,
        folder: Path,
        ref: DatasetRef,
        *,
        train_images: int,
        split_seed: int,
        tested: bool = True,
        device: str = "cpu",
    ) -> None:
        self.data = ArrowDataset.open(folder, fingerprint=ref.fingerprint)
        self.ref, self._device = ref, device
        split = split_target(
            self.data.ids,
            self.data.official_split,
            train_images=train_images,
            split_seed=split_seed,
        )
        self.train, self.val, self._test = (
            np.asarray(part, dtype=np.int64)
            for part in (split.train, split.val, split.test if tested else ())
        )
        if not tested:
            self.data = self.data.only([*split.train, *split.val])

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return images_BCHW in [-1, 1] and labels_BHW; targets are never augmented."""
        return tensors_on("cpu", *self.levels(indices))

    def levels(self, indices: NDArray[np.int64]) -> Levels:
        """Return the same batch as it is stored."""
        return load_levels(
            self.data,
            indices,
            image_size=self.ref.image_size,
            augmentation="none",
            seeds=None,
        )

    def validation_metric(self, predict: Predict) -> float:
        """Return the target's metric over the validation part, in percent."""
        return score(self.data, self.val, self.ref, predict, self._device)[self.ref.metric]

    def score_test(self, predict: Predict, artifacts: Path) -> dict[str, float]:
        """Return `test_<metric>` in percent; write the split, each image's counts, and the picture."""
        artifacts.mkdir(parents=True, exist_ok=True)
        each = score_each(self.data, self._test, self.ref, predict, self._device)
        self.write_split(artifacts)
        ids = [self.data.ids[i] for i in self._test]
        write_image_counts(artifacts / "test_images.arrow", ids, each)
        self._picture(predict, [image_score(counts) for counts in each], artifacts)
        return {f"test_{name}": value for name, value in total(each, self.ref).items()}

    def _picture(self, predict: Predict, scores: list[float], artifacts: Path) -> None:
        """Write what the network makes of its worst images and of ordinary ones."""
        shown = worst_and_middle(scores)
        images_BCHW, labels_BHW = self.batch(self._test[shown])
        write_predictions(
            artifacts / "predictions.png",
            images_BCHW,
            labels_BHW,
            predict(images_BCHW).cpu(),
            classes=self.ref.classes,
            generated=self.ref.generated,
            scores=[scores[i] for i in shown],
        )

    def write_split(self, artifacts: Path) -> None:
        """Write the ids of each part."""
        content = json.dumps(self.split_ids(), indent=1)
        write_atomically(artifacts / "split.json", content.encode())

    def split_ids(self) -> dict[str, list[str]]:
        """Return the sample ids of each part."""
        parts = {"train": self.train, "val": self.val, "test": self._test}
        return {name: [self.data.ids[i] for i in indices] for name, indices in parts.items()}


def worst_and_middle(scores: list[float]) -> list[int]:
    """Return which images to look at: the worst, then those around the median, each once."""
    ranked = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    middle = max(len(ranked) // 2 - MIDDLE // 2, WORST)
    return ranked[:WORST] + ranked[middle : middle + MIDDLE]
