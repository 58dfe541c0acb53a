"""PH2: 200 dermoscopic images from one hospital, each with the outline of one lesion.

Read from the official folders, `IMD###/IMD###_Dermoscopic_Image/IMD###.bmp` with the mask in
`IMD###_lesion`, or from a copy that has all images in `trainx` and all masks in `trainy`.
"""

from pathlib import Path

from trainables.data.info import DatasetInfo, Found
from trainables.data.releases.photographs import read_photograph
from trainables.data.releases.release import (
    files_anywhere,
    folders_named,
    only_folder,
    paired,
    together,
)
from trainables.data.stand_ins.stand_in import stand_in

PLAIN = r"[XYxy]?_?(.+)\.(?:bmp|png|jpg)"


def find(root: Path) -> Found:
    """Return the images under `root` with their masks."""
    if folders_named(root, "trainx") and folders_named(root, "trainy"):
        images = only_folder(root, PLAIN, "the images of PH2", named=("trainx",))
        return paired(images, only_folder(root, PLAIN, "the masks of PH2", named=("trainy",)))
    images = files_anywhere(root, r"(IMD\d+)\.(?:bmp|png|jpg)", "the images of PH2")
    masks = files_anywhere(root, r"(IMD\d+)_lesion\.(?:bmp|png)", "the masks of PH2")
    return together(images, masks, _folder_of)


def _folder_of(path: Path, name: str) -> Path | None:
    """Return the folder of an image that a file lies in; None in copies that have no such folders."""
    return next((folder for folder in path.parents if folder.name == name), None)


DATASET = DatasetInfo(
    name="ph2",
    title="PH2",
    role="target",
    classes=("background", "lesion"),
    expected=200,
    metric="jaccard",
    terms="ADDI project: research and education only, to be cited",
    url="https://www.fc.up.pt/addi/ph2%20database.html",
    version=2,  # 1 took labels at the corners of pixels.
    find=find,
    read=read_photograph,
)
STAND_IN = stand_in(DATASET)
