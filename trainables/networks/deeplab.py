"""DeepLabV3 on a bottleneck ResNet with output stride 8: torchvision's, in any size.

In the default size it is `deeplabv3_resnet50` without auxiliary loss, parameter names included,
so that published ResNet-50 weights fit. No weights are downloaded: `weights.load_backbone` reads
them from a file.

A training batch of one image raises an error: the image-level pooling of the head has batch
normalisation on a 1 x 1 map.

Source: Chen et al., "Rethinking atrous convolution for semantic image segmentation", 2017,
https://arxiv.org/abs/1706.05587.

Shape suffixes: B batch, C image channels, N output channels, H height, W width.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3

from trainables.config import DeepLabConfig
from trainables.networks.imagenet import ImagenetNetwork, ImagenetNormalisation
from trainables.networks.resizing import deterministic_resizing

LAST_PLANES = 512  # Of a ResNet's fourth stage.


class DeepLab(ImagenetNetwork):
    """DeepLabV3 with `outputs` logits per pixel; the noise level is ignored."""

    HEAD: ClassVar[str] = "model.classifier.4"
    # torchvision's DeepLabV3 files put the ResNet under this prefix; ResNet files have none.
    FOREIGN_NAMES: ClassVar[tuple[tuple[str, str], ...]] = ((r"^backbone\.", ""),)

    def __init__(self, config: DeepLabConfig, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.normalisation = ImagenetNormalisation()
        features = LAST_PLANES * config.expansion
        head = DeepLabHead(features, outputs, config.atrous_rates)
        self.model = DeepLabV3(_encoder(config), head)
        self._set_head(head[4], head[4].weight, head[4].bias)

    @property
    def encoder(self) -> nn.Module:
        """The ResNet; its names are those of torchvision's weight files."""
        encoder: nn.Module = self.model.backbone
        return encoder

    def forward(self, images_BCHW: Tensor, t_B: Tensor) -> Tensor:  # noqa: ARG002
        with deterministic_resizing(images_BCHW):
            logits_BNHW: Tensor = self.model(self.normalisation(images_BCHW))["out"]
        return logits_BNHW


def _encoder(config: DeepLabConfig) -> IntermediateLayerGetter:
    # torchvision keeps the expansion on the class of the block.
    block = type("Bottleneck", (Bottleneck,), {"expansion": config.expansion})
    resnet = ResNet(
        block,
        list(config.blocks),
        width_per_group=config.base_width,
        replace_stride_with_dilation=[False, True, True],
    )
    return IntermediateLayerGetter(resnet, return_layers={"layer4": "out"})
