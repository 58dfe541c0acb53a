"""What is known about a dataset before a file of it is opened, and the samples it consists of.

Standard library only: the planner reads these for datasets that are not on the machine. What
needs NumPy or Pillow is imported by `find`, `read` and `generate` when they are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from trainables.config import Augmentation, Metric
    from trainables.data.later_labels import LaterLabels

IGNORED = 255  # A label that stands for no class.
Role = Literal["source", "target", "any"]
Preprocessing = Literal["none", "equalised"]
"""What was done to images before they were resized: nothing, or the histogram equalisation and
gamma of chest X-rays (`chest_xray`)."""
LabelsAt = Literal["centre", "corner"]
"""Point of an output pixel whose label it takes. Images are sampled at centres, and so are labels; at
the corner, as OpenCV's and torch's "nearest" do, they lie about half an output pixel further."""
CROP_MARGIN = 1.75
"""Stored side of datasets that crops are cut from. Stored by a filter that keeps their sharpness, a
crop rescaled from there has what one rescaled from the original has; `docs/data.md` has the figures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Where one labelled image of a release lies."""

    id: str
    image: Path
    masks: tuple[Path, ...]
    split: str = ""
    """`train` or `test` where the release fixes a split; else empty."""


class Found(NamedTuple):
    """What a release was found to hold."""

    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = ()
    """Files that cannot be used, each as `path: what is wrong`."""
    lost: int = 0
    """Labelled images of the release that are no entries because of these problems."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One labelled image as it is stored."""

    id: str
    image_HWC: NDArray[np.uint8]
    labels_HW: NDArray[np.uint8]
    """Class of each pixel; 255 is ignored in training."""
    split: str = ""


class Form(NamedTuple):
    """What a labelled image is brought to when it is stored."""

    side: int
    classes: int
    labels_at: LabelsAt = "centre"
    cropped: bool = False
    """Crops are cut from it and resized again, so it must lose nothing that they could show."""


Find = Callable[[Path], Found]
Read = Callable[[Entry], "tuple[NDArray[Any] | Image, NDArray[np.uint8] | LaterLabels]"]
Generate = Callable[[int, int], Iterator[Sample]]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInfo:
    """One dataset: what it is, and how to get from its release to samples."""

    name: str
    """As studies call it; lower case."""
    title: str
    """As tables print it."""
    role: Role
    """What studies may use it as."""
    classes: tuple[str, ...]
    """Names by label, the background first."""
    expected: int
    """Labelled images in the release; of a generated dataset, how many are made unless told."""
    metric: Metric
    augmentation: Augmentation = "none"
    terms: str
    """Under which conditions the images may be used, in one line."""
    url: str
    preprocessing: Preprocessing = "none"
    stored_margin: float = 1.0
    """Stored side in units of the side that networks see; above 1 where crops are cut from it."""
    labels_at: LabelsAt = "centre"
    """Where labels are taken when they are resized, here and in batches."""
    official_train: int = 0
    """Images that the whole release fixes for training; 0 if it fixes none."""
    version: int = 1
    """Raised when `read` or `generate` gives other pixels, so that old files are made again."""
    sources: tuple[Path, ...] = ()
    """Folders and archives that it is read from unless others are named: where it was imported."""
    doubt: str = ""
    """Why what is prepared may not be what its files say, and what would settle it."""
    find: Find | None = None
    """Locates the release's files under a folder; None if it is made by a program. Raises
    DatasetLayoutError where a folder is missing; single files that stand alone are problems."""
    read: Read | None = None
    """Entry -> image (uint8 HWC, float32 HW in [0, 255], or RGB of Pillow) and labels_HW, perhaps to be made
    later, at original size. A module-level function, since processes are sent its name."""
    generate: Generate | None = None
    """(count, side) -> samples, sorted by id; for datasets made by a program."""

    @property
    def generated(self) -> bool:
        """Made by a program rather than photographed: labelled on every output."""
        return self.generate is not None

    def stored_side(self, image_size: int) -> int:
        """Return the side in pixels at which images are stored for networks that see less."""
        return round(image_size * self.stored_margin)

    def form(self, side: int) -> Form:
        """Return the form in which samples of this dataset are stored at a side."""
        return Form(side, len(self.classes), self.labels_at, cropped=self.stored_margin > 1)
