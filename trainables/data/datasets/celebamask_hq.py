"""CelebAMask-HQ: 30,000 portraits of celebrities, annotated with 18 parts (Lee et al. 2020).

Read from `CelebA-HQ-img/#.jpg` and `CelebAMask-HQ-mask-anno/*/#####_<part>.png`: one file for each
part that a portrait shows, any pixel above 0 belonging to it. Parts overlap; they are painted in the
official order, the skin first, and later ones over earlier ones (`g_mask.py` of the release).

Or with the maps that this program makes of them, `CelebAMaskHQ-mask/#.png`, grey levels 0 to 18. Such
maps in a folder of another name are not read: other programs number the parts in another order.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainables.data.info import DatasetInfo, Entry, Found
from trainables.data.releases.release import by_id, folders, only_folder, paired, unpaired
from trainables.data.stand_ins.stand_in import stand_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARTS = (
    "skin",
    "nose",
    "eye_g",
    "l_eye",
    "r_eye",
    "l_brow",
    "r_brow",
    "l_ear",
    "r_ear",
    "mouth",
    "u_lip",
    "l_lip",
    "hair",
    "hat",
    "ear_r",
    "neck_l",
    "neck",
    "cloth",
)
"""In the order of their labels, 1 to 18, which is the order in which they are painted."""

MASK = r"(\d{5}_[a-z_]+)\.png"
MERGED, MERGED_FOLDER = r"(\d+)\.png", "CelebAMaskHQ-mask"


def find(root: Path) -> Found:
    """Return the portraits under `root`, each with the masks of its parts."""
    images = only_folder(
        root,
        r"(\d+)\.(?:jpg|png)",
        "the portraits of CelebAMask-HQ",
        named=("CelebA-HQ-img",),
        id_of=_padded,
    )
    if not folders(root, MASK) and folders(root, MERGED, named=(MERGED_FOLDER,)):
        maps = only_folder(
            root, MERGED, "the label maps of CelebAMask-HQ", named=(MERGED_FOLDER,), id_of=_padded
        )
        return paired(images, maps, image="portrait")
    masks = by_id(
        (path for files in folders(root, MASK).values() for path in files.values()), MASK
    )
    problems = [*images.unclear.values(), *masks.unclear.values()]
    parts: dict[str, dict[str, Path]] = {}
    for stem, path in masks.items():
        name, _, part = stem.partition("_")
        if part in PARTS:
            parts.setdefault(name, {})[part] = path
        else:
            problems.append(f"{path}: `{part}` is no part of CelebAMask-HQ")
    # A portrait of which one part is unclear is not labelled without it.
    unclear = {*images.unclear, *(stem.partition("_")[0] for stem in masks.unclear)}
    of_any = {name: next(iter(each.values())) for name, each in parts.items()}
    problems += unpaired(images, of_any, "mask of any part", unclear)
    problems += unpaired(of_any, images, "portrait", unclear)
    whole = (images.keys() & parts.keys()) - unclear
    entries = tuple(
        Entry(
            id=name,
            image=images[name],
            masks=tuple(parts[name][part] for part in PARTS if part in parts[name]),
        )
        for name in sorted(whole)
    )
    several = {e.id: e for e in entries if len({path.parent for path in e.masks}) > 1}
    problems += [
        f"{entry.masks[-1]}: lies in another folder than {entry.masks[0]}, as parts of two copies do"
        for entry in several.values()
    ]
    entries = tuple(entry for entry in entries if entry.id not in several)
    every = images.keys() | parts.keys() | unclear
    return Found(entries, tuple(problems), lost=len(every) - len(entries))


def _padded(number: str) -> str:
    return f"{int(number):05}"


def read(entry: Entry) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the portrait, RGB, and its label map at the side of the masks, half of the portrait's.

    Raises:
        BadImageError: if a file cannot be read, or a mask has another shape.
    """
    import numpy as np

    from trainables.data.files.images import read_colour, read_grey, require_aspect, require_shape

    image_HWC = read_colour(entry.image)
    if entry.masks[0].stem.isdigit():
        return image_HWC, _merged(entry.masks[0], image_HWC.shape)
    labels_HW: NDArray[np.uint8] | None = None
    for path in entry.masks:
        inside_HW = read_grey(path) > 0
        if labels_HW is None:
            labels_HW = np.zeros(inside_HW.shape, np.uint8)
            require_aspect(path, inside_HW.shape, image_HWC.shape)
        require_shape(path, inside_HW.shape, labels_HW.shape)
        labels_HW[inside_HW] = 1 + PARTS.index(path.stem.partition("_")[2])
    assert labels_HW is not None, "`find` leaves out portraits without masks"
    return image_HWC, labels_HW


def _merged(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return labels_HW of a map of all parts, usually half as large as the portrait.

    Raises:
        BadImageError: if it is not grey, has another level than the parts, or is of another shape.
    """
    import numpy as np

    from trainables.data.errors import BadImageError
    from trainables.data.files.images import decode, require_aspect

    image = decode(path)
    if image.mode != "L":
        raise BadImageError(f"{path}: a label map of mode {image.mode}; must be grey, 0 to 18")
    labels_HW: NDArray[np.uint8] = np.asarray(image)
    if labels_HW.max() > len(PARTS):
        raise BadImageError(
            f"{path}: label {labels_HW.max()}, but the parts are 1 to {len(PARTS)}"
        )
    require_aspect(path, labels_HW.shape, shape)
    return labels_HW


DATASET = DatasetInfo(
    name="celebamask_hq",
    title="CelebAMask-HQ",
    role="source",
    classes=("background", *PARTS),
    expected=30_000,
    metric="miou_ledm",
    terms="non-commercial research and education only, to be cited",
    url="https://github.com/switchablenorms/CelebAMask-HQ",
    version=2,  # 1 took labels at the corners of pixels.
    find=find,
    read=read,
)
STAND_IN = stand_in(
    DATASET,
    classes=("background", "skin", "nose", "eye", "brow", "mouth", "hair", "cloth"),
)
