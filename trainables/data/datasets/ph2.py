"""PH2: 200 dermoscopic images from one hospital, each with the outline of one lesion."""

from trainables.data.info import DatasetInfo
from trainables.data.stand_in import stand_in

DATASET = DatasetInfo(
    name="ph2",
    title="PH2",
    role="target",
    classes=("background", "lesion"),
    expected=200,
    metric="jaccard",
    terms="ADDI project: research and education only, to be cited",
    url="https://www.fc.up.pt/addi/ph2%20database.html",
)
STAND_IN = stand_in(DATASET)
