"""DermIS: 69 clinical photographs of skin lesions from the University of Waterloo's collection."""

from trainables.data.info import DatasetInfo
from trainables.data.stand_in import stand_in

DATASET = DatasetInfo(
    name="dermis",
    title="DermIS",
    role="target",
    classes=("background", "lesion"),
    expected=69,
    metric="jaccard",
    terms="Vision and Image Processing Lab, University of Waterloo: research only, to be cited",
    url="https://uwaterloo.ca/vision-image-processing-lab/research-demos/skin-cancer-detection",
)
STAND_IN = stand_in(DATASET)
