"""The eleven rows of Table 2 of arXiv 2408.03433, in its order: nine baselines, two hybrid rows."""

from trainables.methods import Method

METHODS = (
    Method(
        name="scratch_adm",
        title="ADM from scratch",
        network="adm",
        pretraining=None,
        adaptation="finetune",
    ),
    Method(
        name="i1k_deeplab",
        title="DeepLabV3, ImageNet",
        network="deeplab",
        pretraining=None,
        adaptation="finetune",
        imagenet=True,
    ),
    Method(
        name="i1k_segformer",
        title="SegFormer, ImageNet",
        network="segformer",
        pretraining=None,
        adaptation="finetune",
        imagenet=True,
    ),
    Method(
        name="diffusion_ledm",
        title="Diffusion, LEDM",
        network="adm",
        pretraining="diffusion",
        adaptation="ledm",
    ),
    Method(
        name="diffusion_ft",
        title="Diffusion, fine-tuning",
        network="adm",
        pretraining="diffusion",
        adaptation="finetune",
    ),
    Method(
        name="supervised_ledm",
        title="Supervised, LEDM",
        network="adm",
        pretraining="supervised",
        adaptation="ledm",
    ),
    Method(
        name="supervised_ft",
        title="Supervised, fine-tuning",
        network="adm",
        pretraining="supervised",
        adaptation="finetune",
    ),
    Method(
        name="hybrid_ledm",
        title="Hybrid, LEDM",
        network="adm",
        pretraining="hybrid",
        adaptation="ledm",
        proposed=True,
    ),
    Method(
        name="hybrid_ft",
        title="Hybrid, fine-tuning",
        network="adm",
        pretraining="hybrid",
        adaptation="finetune",
        proposed=True,
    ),
    Method(
        name="i1k_sup_segformer",
        title="SegFormer, ImageNet + supervised",
        network="segformer",
        pretraining="supervised",
        adaptation="finetune",
        imagenet=True,
    ),
    Method(
        name="i1k_sup_deeplab",
        title="DeepLabV3, ImageNet + supervised",
        network="deeplab",
        pretraining="supervised",
        adaptation="finetune",
        imagenet=True,
    ),
)
