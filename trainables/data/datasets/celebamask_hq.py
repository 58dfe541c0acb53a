"""CelebAMask-HQ: 30,000 portraits of celebrities, annotated with 18 parts (Lee et al. 2020)."""

from trainables.data.info import DatasetInfo
from trainables.data.stand_in import stand_in

PARTS = (
    "skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r neck_l "
    "neck cloth"
)

DATASET = DatasetInfo(
    name="celebamask_hq",
    title="CelebAMask-HQ",
    role="source",
    classes=("background", *PARTS.split()),
    expected=30_000,
    metric="miou_ledm",
    terms="non-commercial research and education only, to be cited",
    url="https://github.com/switchablenorms/CelebAMask-HQ",
)
STAND_IN = stand_in(
    DATASET,
    classes=("background", "skin", "nose", "eye", "brow", "mouth", "hair", "cloth"),
)
