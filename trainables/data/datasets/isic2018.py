"""ISIC 2018 task 1: 2594 dermoscopic images, each with the outline of one lesion."""

from trainables.data.info import DatasetInfo
from trainables.data.stand_in import stand_in

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
)
STAND_IN = stand_in(DATASET)
