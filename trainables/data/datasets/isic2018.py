"""ISIC 2018 task 1: 2594 dermoscopic images, each with the outline of one lesion.

Read from `ISIC2018_Task1-2_Training_Input` and `ISIC2018_Task1_Training_GroundTruth`. The
validation and test images of the challenge, which may lie beside them, are not part of the set.
"""

from pathlib import Path

from trainables.data.info import DatasetInfo, Found
from trainables.data.releases.photographs import read_photograph
from trainables.data.releases.release import Files, by_id, folders, one_place, paired
from trainables.data.stand_ins.stand_in import stand_in


def find(root: Path) -> Found:
    """Return the training images under `root` with their masks."""
    images = _training(root, r"(ISIC_\d{7})\.(?:jpg|jpeg|png)", "the training images of ISIC 2018")
    masks = _training(root, r"(ISIC_\d{7})_segmentation\.png", "the training masks of ISIC 2018")
    return paired(images, masks)


def _training(root: Path, pattern: str, what: str) -> Files:
    """Return the files of the one folder that has any, or of those the one for training."""
    found = folders(root, pattern)
    if len(found) > 1:
        training = {path: each for path, each in found.items() if "training" in path.name.lower()}
        found = training or found  # Several, none of which says so, are several places.
    return by_id(found[one_place(root, sorted(found), what)].values(), pattern)


DATASET = DatasetInfo(
    name="isic2018",
    title="ISIC 2018",
    role="source",
    classes=("background", "lesion"),
    expected=2594,
    metric="jaccard",
    augmentation="flips",
    terms="ISIC 2018 challenge: non-commercial (CC BY-NC 4.0), to be cited",
    url="https://challenge.isic-archive.com/data/#2018",
    version=2,  # 1 took labels at the corners of pixels.
    find=find,
    read=read_photograph,
)
STAND_IN = stand_in(DATASET)
