"""SegFormer: a Mix Transformer with the all-MLP decoder, from transformers, in any size.

The default size is MiT-B3 with the 768-wide decoder that belongs to it. Nothing is downloaded:
`weights.load_backbone` reads published weights from a file.

The decoder answers at a quarter of the resolution; logits are resized bilinearly to the images.

Source: Xie et al., "SegFormer", 2021, https://arxiv.org/abs/2105.15203.

Shape suffixes: B batch, C image channels, N output channels, H height, W width; hw a quarter of it.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation
from transformers.utils import logging
from transformers.utils.output_capturing import maybe_install_capturing_hooks

from trainables.config import SegFormerConfig
from trainables.networks.imagenet import ImagenetNetwork, ImagenetNormalisation
from trainables.networks.resizing import deterministic_resizing

# transformers 4, which the published MiT files were written by, to transformers 5. In this order:
# the normalisation of a key's spatial reduction has the name of a stage's, but deeper.
TO_TRANSFORMERS_5 = (
    (r"^segformer\.", ""),
    (r"^encoder\.patch_embeddings\.(\d+)\.", r"stages.\1.patch_embeddings."),
    (r"^encoder\.block\.(\d+)\.", r"stages.\1.blocks."),
    (r"^encoder\.layer_norm\.(\d+)\.", r"stages.\1.layer_norm."),
    (r"\.attention\.self\.query\.", ".attention.q_proj."),
    (r"\.attention\.self\.key\.", ".attention.k_proj."),
    (r"\.attention\.self\.value\.", ".attention.v_proj."),
    (r"\.attention\.self\.sr\.", ".attention.sequence_reduction.sequence_reduction."),
    (r"\.attention\.self\.layer_norm\.", ".attention.sequence_reduction.layer_norm."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.mlp\.dense1\.", ".mlp.fc1."),
    (r"\.mlp\.dense2\.", ".mlp.fc2."),
    (r"\.layer_norm_1\.", ".layernorm_before."),
    (r"\.layer_norm_2\.", ".layernorm_after."),
)


class SegFormer(ImagenetNetwork):
    """SegFormer with `outputs` logits per pixel; the noise level is ignored."""

    HEAD: ClassVar[str] = "model.decode_head.classifier"
    FOREIGN_NAMES: ClassVar[tuple[tuple[str, str], ...]] = TO_TRANSFORMERS_5

    def __init__(self, config: SegFormerConfig, outputs: int) -> None:
        super().__init__()
        logging.set_verbosity_error()  # Its advice is for people who call it directly.
        self.config = config
        self.normalisation = ImagenetNormalisation()
        self.model = SegformerForSemanticSegmentation(_settings(config, outputs))
        # What the first call would do under a lock, which `torch.compile` cannot look through.
        maybe_install_capturing_hooks(self.encoder)
        last = self.model.decode_head.classifier
        self._set_head(last, last.weight, last.bias)

    @property
    def encoder(self) -> nn.Module:
        """The Mix Transformer; its names are those of transformers 5."""
        encoder: nn.Module = self.model.segformer
        return encoder

    def forward(self, images_BCHW: Tensor, t_B: Tensor) -> Tensor:  # noqa: ARG002
        size = images_BCHW.shape[-2:]
        with deterministic_resizing(images_BCHW):
            logits_BNhw: Tensor = self.model(self.normalisation(images_BCHW)).logits
            return F.interpolate(logits_BNhw, size=size, mode="bilinear", align_corners=False)


def _settings(config: SegFormerConfig, outputs: int) -> SegformerConfig:
    return SegformerConfig(
        num_labels=outputs,
        hidden_sizes=list(config.widths),
        depths=list(config.depths),
        num_attention_heads=list(config.heads),
        sr_ratios=list(config.reductions),
        decoder_hidden_size=config.decoder_channels,
        drop_path_rate=config.drop_path,
        classifier_dropout_prob=config.dropout,
    )
