"""NIH: the 100 ChestX-ray14 images whose lungs were annotated for XLSor (Tang et al. 2019).

Read from the release of XLSor, `XLSor_data/data/NIH/{images,masks}`; its other sets are not read,
and neither is ChestX-ray14 as a whole.
"""

from pathlib import Path

from trainables.data.info import DatasetInfo, Found
from trainables.data.releases.lungs import read_lungs
from trainables.data.releases.release import folders_named, one_place, only_folder, paired
from trainables.data.stand_ins.stand_in import stand_in

WHAT = "the X-rays of NIH, `NIH/images` and `NIH/masks`,"


def find(root: Path) -> Found:
    """Return the X-rays of the folder `NIH` under `root`, with their masks."""
    home = one_place(
        root, [each.parent for each in folders_named(root, "masks") if _is_nih(each)], WHAT
    )
    masks = only_folder(home, r"(.+)_mask\.png", "the masks of NIH", named=("masks",))
    images = only_folder(home, r"(.+)\.png", "the X-rays of NIH", named=("images",))
    return paired(images, masks, image="X-ray")


def _is_nih(masks: Path) -> bool:
    return masks.parent.name.lower() == "nih" and (masks.parent / "images").is_dir()


DATASET = DatasetInfo(
    name="nih",
    title="NIH",
    role="target",
    classes=("background", "lung"),
    expected=100,
    metric="jaccard",
    terms="NIH Clinical Center: free to use with attribution; masks of XLSor, to be cited",
    url="https://github.com/rsummers11/CADLab/tree/master/Lung_Segmentation_XLSor",
    preprocessing="equalised",
    version=2,  # 1 took labels at the corners of pixels.
    find=find,
    read=read_lungs,
)
STAND_IN = stand_in(DATASET)
