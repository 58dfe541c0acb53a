"""The ADM UNet: diffusers' `UNet2DModel` configured to be it, with ADM's zero initialisation.

The defaults of `UNet2DModel` are another network (additive time embedding, convolutional
resampling, narrow heads). What has to be set, and what the class leaves to us:

* both residual blocks and resampling use scale-shift normalisation and no strided convolution;
* the attention of the middle block needs `attn_norm_num_groups`, or silently has no normalisation;
* its blocks leave the memory layout they are given: `adm_blocks` has the forward that is run;
* nothing is zero-initialised: the second convolution of every residual block, the projection of
  every attention and the last layer must be, so that a fresh network answers exactly 0.

Source: Dhariwal & Nichol, "Diffusion models beat GANs on image synthesis", 2021,
https://arxiv.org/abs/2105.05233.

Shape suffixes: B batch, C image channels, N output channels, H height, W width.
"""

from __future__ import annotations

from typing import ClassVar

from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from trainables.config import AdmConfig
from trainables.networks.adm_blocks import (
    AttentionBlock,
    ResidualBlock,
    fuse_norms,
    take_over_blocks,
    use_one_layout,
)
from trainables.networks.base import SegmentationNetwork, without_autocast

GROUPS = 32
IMAGE_CHANNELS = 3


class AdmUNet(SegmentationNetwork):
    """ADM with `outputs` channels; the output of a fresh network is exactly 0.

    Raises:
        ValueError: if the channels of a level do not split into normalisation groups or into
            attention heads.
    """

    HEAD: ClassVar[str] = "unet.conv_out"

    def __init__(self, config: AdmConfig, outputs: int) -> None:
        super().__init__()
        _check(config)
        self.config = config
        self.unet = _unet(config, outputs)
        take_over_blocks(self.unet)
        self.unet.conv_norm_out = _full_precision(self.unet.conv_norm_out)
        last = self.unet.conv_out
        self._set_head(last, last.weight, last.bias)
        _zero_initialise(self.unet)

    def forward(self, images_BCHW: Tensor, t_B: Tensor) -> Tensor:
        side = 2 ** (len(self.config.multipliers) - 1)
        if images_BCHW.shape[-1] % side or images_BCHW.shape[-2] % side:
            raise ValueError(
                f"image sides must be multiples of {side} for {len(self.config.multipliers)} "
                f"levels, got {images_BCHW.shape[-2]} x {images_BCHW.shape[-1]}"
            )
        outputs_BNHW: Tensor = self.unet(images_BCHW, t_B, return_dict=False)[0]
        return outputs_BNHW

    def use_one_layout(self) -> None:
        self.head.multiple = 8
        use_one_layout(self.unet)

    def fuse_norms(self) -> None:
        fuse_norms(self.unet)

    @property
    def num_decoder_blocks(self) -> int:
        """Output blocks of ADM: one more per level than input blocks."""
        return len(self.config.multipliers) * (self.config.blocks_per_level + 1)

    def decoder_block(self, index: int) -> nn.Module:
        """Return the module whose output is that of decoder block `index`, coarsest first.

        A block is a residual block, then attention on the levels that have it, then upsampling if
        it is the last of its level: the module returned is the last of these.

        Raises:
            IndexError: if there is no such block.
        """
        if not 0 <= index < self.num_decoder_blocks:
            raise IndexError(f"no decoder block {index}, there are {self.num_decoder_blocks}")
        blocks = self.config.blocks_per_level + 1
        level, position = divmod(index, blocks)
        up: nn.Module = self.unet.up_blocks[level]
        if position == blocks - 1 and up.upsamplers is not None:
            return up
        layers = up.attentions if hasattr(up, "attentions") else up.resnets
        assert isinstance(layers, nn.ModuleList)
        return layers[position]


class _FullPrecisionGroupNorm(nn.GroupNorm):
    """Group normalisation in float32 even under autocast: it feeds the last layer."""

    def forward(self, input: Tensor) -> Tensor:
        with without_autocast(input):
            return super().forward(input.float())


def _full_precision(norm: nn.GroupNorm) -> nn.GroupNorm:
    device = norm.weight.device
    return _FullPrecisionGroupNorm(norm.num_groups, norm.num_channels, norm.eps, device=device)


def _check(config: AdmConfig) -> None:
    widths = [config.channels * multiplier for multiplier in config.multipliers]
    if any(width % GROUPS for width in widths):
        raise ValueError(f"channels of ADM levels must be multiples of {GROUPS}, got {widths}")
    # The middle block, as wide as the coarsest level, always has attention.
    attending = [w for w, attends in zip(widths, _attends(config), strict=True) if attends]
    for width in (*attending, widths[-1]):
        if width % config.head_channels:
            raise ValueError(
                f"attention heads of {config.head_channels} channels do not divide a level of "
                f"{width} channels"
            )


def _attends(config: AdmConfig) -> list[bool]:
    """Return whether each level has attention, finest first; level i is 2**i times smaller."""
    return [2**level in config.attention_rates for level in range(len(config.multipliers))]


def _unet(config: AdmConfig, outputs: int) -> UNet2DModel:
    attends = _attends(config)
    down = ["AttnDownBlock2D" if attend else "ResnetDownsampleBlock2D" for attend in attends]
    up = ["AttnUpBlock2D" if attend else "ResnetUpsampleBlock2D" for attend in attends]
    return UNet2DModel(
        in_channels=IMAGE_CHANNELS,
        out_channels=outputs,
        block_out_channels=tuple(config.channels * m for m in config.multipliers),
        layers_per_block=config.blocks_per_level,
        down_block_types=tuple(down),
        up_block_types=tuple(reversed(up)),
        attention_head_dim=config.head_channels,
        norm_num_groups=GROUPS,
        attn_norm_num_groups=GROUPS,
        resnet_time_scale_shift="scale_shift",
        downsample_type="resnet",
        upsample_type="resnet",
        dropout=config.dropout,
    )


def _zero_initialise(unet: UNet2DModel) -> None:
    layers: list[nn.Conv2d | nn.Linear] = [unet.conv_out]
    for module in unet.modules():
        if isinstance(module, ResidualBlock):
            layers.append(module.conv2)
        elif isinstance(module, AttentionBlock):
            projection = module.to_out[0]
            assert isinstance(projection, nn.Linear)
            layers.append(projection)
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
