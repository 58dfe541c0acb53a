"""The ImageNet rows of Table 2 from random weights, for machines that lack the published ones.

Rows of their own, so that no table can print them as what they are not.
"""

from trainables.methods import Method

METHODS = (
    Method(
        name="random_deeplab",
        title="DeepLabV3, random",
        network="deeplab",
        pretraining=None,
        adaptation="finetune",
    ),
    Method(
        name="random_segformer",
        title="SegFormer, random",
        network="segformer",
        pretraining=None,
        adaptation="finetune",
    ),
    Method(
        name="random_sup_segformer",
        title="SegFormer, random + supervised",
        network="segformer",
        pretraining="supervised",
        adaptation="finetune",
    ),
    Method(
        name="random_sup_deeplab",
        title="DeepLabV3, random + supervised",
        network="deeplab",
        pretraining="supervised",
        adaptation="finetune",
    ),
)

INSTEAD_OF = {method.name.replace("random", "i1k"): method.name for method in METHODS}
"""Row from random weights by the ImageNet row that it stands in for."""

STANDS_FOR = {name: row for row, name in INSTEAD_OF.items()}
"""The ImageNet row by the row from random weights."""
