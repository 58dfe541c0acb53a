"""NIH: the 100 ChestX-ray14 images whose lungs were annotated for XLSor (Tang et al. 2019)."""

from trainables.data.info import DatasetInfo
from trainables.data.stand_in import stand_in

DATASET = DatasetInfo(
    name="nih",
    title="NIH",
    role="target",
    classes=("background", "lung"),
    expected=100,
    metric="jaccard",
    terms="NIH Clinical Center: free to use with attribution; masks of XLSor, to be cited",
    url="https://github.com/rsummers11/CADLab/tree/master/Lung_Segmentation_XLSor",
)
STAND_IN = stand_in(DATASET)
