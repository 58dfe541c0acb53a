"""Montgomery: 138 chest X-rays, each lung outlined (Candemir et al. 2014, Jaeger et al. 2014).

Read from the official folders (`MontgomerySet/CXR_png`, `ManualMask/{leftMask,rightMask}`, united)
or from copies on Kaggle, with Shenzhen or without, of united masks (`{CXR_png,cxr}` and `masks`, where
their names may end in `_mask`).
"""

from pathlib import Path

from trainables.data.info import DatasetInfo, Found
from trainables.data.releases.lungs import IMAGE_FOLDERS, MASK_FOLDERS, read_lungs
from trainables.data.releases.release import folders, only_folder, paired
from trainables.data.stand_ins.stand_in import stand_in

FILE = r"(MCUCXR_\d{4}_[01])\.png"
UNITED = r"(MCUCXR_\d{4}_[01])(?:_mask)?\.png"
WHAT = "Montgomery"


def find(root: Path) -> Found:
    """Return the X-rays under `root` with their masks."""
    images = only_folder(root, FILE, f"the X-rays of {WHAT}", named=IMAGE_FOLDERS)
    if folders(root, FILE, named=("leftMask", "rightMask")):
        left = only_folder(root, FILE, f"the left lung masks of {WHAT}", named=("leftMask",))
        right = only_folder(root, FILE, f"the right lung masks of {WHAT}", named=("rightMask",))
        return paired(images, left, right, image="X-ray")
    masks = only_folder(root, UNITED, f"the masks of {WHAT}", named=MASK_FOLDERS)
    return paired(images, masks, image="X-ray")


DATASET = DatasetInfo(
    name="montgomery",
    title="Montgomery",
    role="target",
    classes=("background", "lung"),
    expected=138,
    metric="jaccard",
    terms="U.S. National Library of Medicine, to be cited",
    url="https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html#tuberculosis-image-data-sets",
    preprocessing="equalised",
    version=2,  # 1 took labels at the corners of pixels.
    find=find,
    read=read_lungs,
)
STAND_IN = stand_in(DATASET)
