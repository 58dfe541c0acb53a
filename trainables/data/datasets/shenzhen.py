"""Shenzhen: 566 chest X-rays with both lungs outlined (Jaeger et al. 2014, Stirenko et al. 2018).

The release has 662 X-rays, the separately released masks cover 566 of them: masks decide. Read
from the official folders (`ChinaSet_AllFiles/CXR_png`, `mask/mask`) or from copies on Kaggle, with
Montgomery or without (`{CXR_png,cxr}` and `masks`, where `_mask` may be left out of the names).
"""

from pathlib import Path

from trainables.data.info import CROP_MARGIN, DatasetInfo, Found
from trainables.data.releases.lungs import IMAGE_FOLDERS, MASK_FOLDERS, read_lungs
from trainables.data.releases.release import folders, only_folder, paired
from trainables.data.stand_ins.stand_in import stand_in

STEM = r"CHNCXR_\d{4}_[01]"


def find(root: Path) -> Found:
    """Return the masked X-rays under `root`; an X-ray without a mask is not part of the set."""
    images = only_folder(root, rf"({STEM})\.png", "the X-rays of Shenzhen", named=IMAGE_FOLDERS)
    named = rf"({STEM})_mask\.png"
    if folders(root, named) or not folders(root, rf"({STEM})\.png", named=MASK_FOLDERS):
        masks = only_folder(root, named, "the lung masks of Shenzhen")
    else:
        what = "the lung masks of Shenzhen"
        masks = only_folder(root, rf"({STEM})\.png", what, named=MASK_FOLDERS)
    return paired(images.of(masks), masks, image="X-ray")


DATASET = DatasetInfo(
    name="shenzhen",
    title="Shenzhen",
    role="source",
    classes=("background", "lung"),
    expected=566,
    metric="jaccard",
    augmentation="border_crop",
    terms="X-rays: U.S. National Library of Medicine, to be cited; masks: CC BY-NC-SA 4.0",
    url="https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html#tuberculosis-image-data-sets",
    preprocessing="equalised",
    stored_margin=CROP_MARGIN,
    version=2,  # 1 took labels at the corners of pixels, and stored 1.125 times the side.
    find=find,
    read=read_lungs,
)
STAND_IN = stand_in(DATASET)
