"""FFHQ-34: 40 portraits in 34 classes, from the authors of LEDM (Baranchuk et al. 2022).

Read from `ffhq_34/real/{train,test}` of their `datasets.tar.gz`: square images, and a label map of
the same name as `.npy`, in which 255 is ignored. The release fixes the 20 training images; its
synthetic images (`ddpm`) and other datasets are not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainables.data.info import DatasetInfo, Entry, Found
from trainables.data.releases.release import files_anywhere, folders_named, one_place, unpaired
from trainables.data.stand_ins.faces import FACE_CLASSES
from trainables.data.stand_ins.stand_in import stand_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGE, LABELS = r"(.+)\.(?:png|jpg|jpeg)", r"(.+)\.npy"
WHAT = "the images of FFHQ-34, `ffhq_34/real/train` and `test`,"


def find(root: Path) -> Found:
    """Return the images of both parts under `root`; ids are `<part>/<name>`."""
    real = one_place(root, [each for each in folders_named(root, "real") if _is_ffhq(each)], WHAT)
    entries, problems, lost = [], [], 0
    for split in ("test", "train"):
        images = files_anywhere(real / split, IMAGE, f"the {split} images of FFHQ-34")
        labels = files_anywhere(real / split, LABELS, f"the {split} label maps of FFHQ-34")
        unclear = {**images.unclear, **labels.unclear}
        problems += [*images.unclear.values(), *labels.unclear.values()]
        problems += unpaired(images, labels, "label map", unclear)
        problems += unpaired(labels, images, "image", unclear)
        lost += len((images.keys() ^ labels.keys()) | unclear.keys())
        entries += [
            Entry(id=f"{split}/{name}", image=images[name], masks=(labels[name],), split=split)
            for name in sorted(images.keys() & labels.keys())
        ]
    return Found(tuple(entries), tuple(problems), lost)


def _is_ffhq(real: Path) -> bool:
    """Whether a folder is FFHQ's and not another dataset of LEDM's; alone, it needs no parent."""
    both = (real / "train").is_dir() and (real / "test").is_dir()
    return both and not real.parent.name.lower().startswith(("bedroom", "cat", "celeba", "horse"))


def read(entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return image, RGB, and label map, each at its own size.

    Raises:
        BadImageError: if a file cannot be read, or the two are not of one shape.
    """
    from trainables.data.files.arrays import read_npy_labels
    from trainables.data.files.images import read_colour, require_aspect

    image_HWC, labels_HW = read_colour(entry.image), read_npy_labels(entry.masks[0])
    require_aspect(entry.masks[0], labels_HW.shape, image_HWC.shape)
    return image_HWC, labels_HW


DATASET = DatasetInfo(
    name="ffhq34",
    title="FFHQ-34",
    role="target",
    classes=(
        "background",
        "head",
        "head***cheek",
        "head***chin",
        "head***ear",
        "head***ear***helix",
        "head***ear***lobule",
        "head***eye***bottom lid",
        "head***eye***eyelashes",
        "head***eye***iris",
        "head***eye***pupil",
        "head***eye***sclera",
        "head***eye***tear duct",
        "head***eye***top lid",
        "head***eyebrow",
        "head***forehead",
        "head***frown",
        "head***hair",
        "head***hair***sideburns",
        "head***jaw",
        "head***moustache",
        "head***mouth***inferior lip",
        "head***mouth***oral commissure",
        "head***mouth***superior lip",
        "head***mouth***teeth",
        "head***neck",
        "head***nose",
        "head***nose***ala of nose",
        "head***nose***bridge",
        "head***nose***nose tip",
        "head***nose***nostril",
        "head***philtrum",
        "head***temple",
        "head***wrinkles",
    ),
    expected=40,
    metric="miou_ledm",
    terms="images of FFHQ (CC BY-NC-SA 4.0); annotation by Yandex Research, to be cited",
    url="https://github.com/yandex-research/ddpm-segmentation",
    official_train=20,
    labels_at="corner",  # As the official code does, with OpenCV's nearest.
    find=find,
    read=read,
)
STAND_IN = stand_in(DATASET, classes=FACE_CLASSES)
