"""PH2: 200 dermoscopic images from one hospital, each with the outline of one lesion.

Read from the official folders, `IMD###/IMD###_Dermoscopic_Image/IMD###.bmp` with the mask in
`IMD###_lesion`, or from a copy that has all images in `trainx` and all masks in `trainy`.
"""

from pathlib import Path

from trainables.data.info import DatasetInfo, Found
from trainables.data.photographs import read_photograph
from trainables.data.release import folders_named, only_file_each, only_folder, paired
from trainables.data.stand_in import stand_in

PLAIN = r"[XYxy]?_?(.+)\.(?:bmp|png|jpg)"


def find(root: Path) -> Found:
    """Return the images under `root` with their masks."""
    if folders_named(root, "trainx") and folders_named(root, "trainy"):
        images = only_folder(root, PLAIN, "the images of PH2", named=("trainx",))
        return paired(images, only_folder(root, PLAIN, "the masks of PH2", named=("trainy",)))
    images, doubled = only_file_each(root, r"(IMD\d+)\.(?:bmp|png|jpg)", "the images of PH2")
    masks, more = only_file_each(root, r"(IMD\d+)_lesion\.(?:bmp|png)", "the masks of PH2")
    found = paired(images, masks)
    return found._replace(problems=(*doubled, *more, *found.problems))


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
