"""DermIS: 69 clinical photographs of skin lesions from the University of Waterloo's collection.

Read from the folders `melanoma/dermIS` and `notmelanoma/dermis` of "Skin Image Data Set" 1 and 2,
however they are capitalised; the `dermquest` folders beside them are another collection.
"""

import re
from pathlib import Path

from trainables.data.errors import DatasetLayoutError
from trainables.data.info import DatasetInfo, Found
from trainables.data.releases.photographs import read_photograph
from trainables.data.releases.release import Files, folders, one_each, together
from trainables.data.stand_ins.stand_in import stand_in

IMAGE = r"(.+)_orig\.(?:jpg|jpeg|png|bmp)"
MASK = r"(.+)_contour\.(?:png|bmp)"  # A filled mask despite its name.
KINDS = ("melanoma", "notmelanoma")


def find(root: Path) -> Found:
    """Return the photographs of both kinds under `root` with their masks."""
    images, masks = _by_kind(root, IMAGE), _by_kind(root, MASK)
    missing = [kind for kind in KINDS if not any(name.startswith(f"{kind}/") for name in images)]
    if missing:
        raise DatasetLayoutError(
            f"{root}: photographs of DermIS are not here: no folder {missing[0]}/dermis with files "
            "like *_orig.jpg"
        )
    return together(images, masks, lambda path, _: path.parent, image="photograph")


def _by_kind(root: Path, pattern: str) -> Files:
    """Return the files in `<kind>/dermis` folders; ids repeat between the kinds, so name both."""
    return one_each(
        (f"{folder.parent.name.lower()}/{match[1]}", path)
        for folder, files in folders(root, pattern, named=("dermis",)).items()
        if folder.parent.name.lower() in KINDS
        for name, path in files.items()
        if (match := re.fullmatch(pattern, name))
    )


DATASET = DatasetInfo(
    name="dermis",
    title="DermIS",
    role="target",
    classes=("background", "lesion"),
    expected=69,
    metric="jaccard",
    terms="Vision and Image Processing Lab, University of Waterloo: research only, to be cited",
    url="https://uwaterloo.ca/vision-image-processing-lab/research-demos/skin-cancer-detection",
    version=2,  # 1 took labels at the corners of pixels.
    find=find,
    read=read_photograph,
)
STAND_IN = stand_in(DATASET)
