"""Residual and attention blocks of the ADM: diffusers' weights under a forward of our own.

Diffusers' blocks divide every output by 1, make the input of every shortcut contiguous whatever the
layout, and hand on what an attention computes in the order in which its matrix products left it: a
network that was asked for no particular layout runs a quarter of its residual blocks in
channels-last, and one in channels-last leaves it at every shortcut. The blocks here take over the
submodules, so that names, order and values of weights stay as they were, and compute

* without `one_layout`, bit for bit what diffusers' do; only the divisions are left out;
* with it, every map in the layout of the input, channels-last or not. Sums then round differently,
  and dropout, which is drawn in the order of memory, falls on other values.

Shape suffixes: B batch, C channels, H height, W width, P pixels, E width of the time embedding.
"""

from __future__ import annotations

import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from trainables.networks.fused_norm import load_kernel, norm_silu


class ResidualBlock(nn.Module):
    """Two normalised convolutions, the second conditioned on the time, beside a shortcut.

    Args:
        block: whose submodules are taken over, by name and in order.
    """

    norm1: nn.GroupNorm
    conv1: nn.Conv2d
    time_emb_proj: nn.Linear
    norm2: nn.GroupNorm
    dropout: nn.Dropout
    conv2: nn.Conv2d

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.one_layout = self.fused = False
        self._down, self._up = block.downsample is not None, block.upsample is not None
        self._projected = block.conv_shortcut is not None
        _take_over(self, block)

    def forward(self, input_BCHW: Tensor, temb: Tensor) -> Tensor:
        """Return the block's output of an input and the time embedding temb_BE."""
        hidden = norm_silu(input_BCHW, self.norm1, fused=self.fused)
        hidden = self.conv1(self._resampled(hidden))
        scale, shift = self.time_emb_proj(F.silu(temb)).chunk(2, dim=1)
        hidden = norm_silu(
            hidden,
            self.norm2,
            scale_shift=(scale, shift),
            dropout=self.dropout.p if self.training else 0.0,
            fused=self.fused,
        )
        hidden = self.conv2(hidden)
        total: Tensor = self._shortcut(self._resampled(input_BCHW)) + hidden
        return total

    def _resampled(self, map_BCHW: Tensor) -> Tensor:
        if self._down:
            return F.avg_pool2d(map_BCHW, 2, 2)
        if not self._up:
            return map_BCHW
        if len(map_BCHW) >= 64 and not self.one_layout:
            map_BCHW = map_BCHW.contiguous()  # As diffusers does, and so the same bits.
        return F.interpolate(map_BCHW, scale_factor=2.0, mode="nearest")

    def _shortcut(self, input_BCHW: Tensor) -> Tensor:
        if not self._projected:
            return input_BCHW
        if self.training and not self.one_layout:
            input_BCHW = input_BCHW.contiguous()
        projected: Tensor = self.get_submodule("conv_shortcut")(input_BCHW)
        return projected


class AttentionBlock(nn.Module):
    """Self-attention over the pixels of a map, added to it.

    Args:
        block: whose submodules are taken over, by name and in order.
    """

    group_norm: nn.GroupNorm
    to_q: nn.Linear
    to_k: nn.Linear
    to_v: nn.Linear
    to_out: nn.ModuleList

    def __init__(self, block: Attention) -> None:
        super().__init__()
        self.one_layout = False
        self._heads = block.heads
        _take_over(self, block)

    def forward(self, input_BCHW: Tensor, temb: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return the map with what its pixels attend to added; the time is not read."""
        batch, channels, height, width = input_BCHW.shape
        attended_BPC = self._attended(self._normalised(input_BCHW))
        if not self.one_layout:
            mixed = attended_BPC.transpose(-1, -2).reshape(batch, channels, height, width)
            return mixed + input_BCHW
        mixed = attended_BPC.view(batch, height, width, channels).permute(0, 3, 1, 2)
        # The sum takes the layout of its first operand.
        return input_BCHW + mixed

    def _normalised(self, input_BCHW: Tensor) -> Tensor:
        """Return the normalised map as (B, P, C)."""
        if self.one_layout:
            normal_BCHW: Tensor = self.group_norm(input_BCHW)
            return normal_BCHW.permute(0, 2, 3, 1).flatten(1, 2)
        normal_BCP: Tensor = self.group_norm(input_BCHW.flatten(2))
        return normal_BCP.transpose(1, 2)

    def _attended(self, normal_BPC: Tensor) -> Tensor:
        q, k, v = (
            layer(normal_BPC).unflatten(2, (self._heads, -1)).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        heads = F.scaled_dot_product_attention(q, k, v)
        attended: Tensor = self.to_out[0](heads.transpose(1, 2).flatten(2))
        return attended


def take_over_blocks(unet: nn.Module) -> None:
    """Put our blocks in the place of diffusers', with the same weights under the same names."""
    for name, module in list(unet.named_modules()):
        if isinstance(module, ResnetBlock2D):
            unet.set_submodule(name, ResidualBlock(module))
        elif isinstance(module, Attention):
            unet.set_submodule(name, AttentionBlock(module))


def use_one_layout(unet: nn.Module) -> None:
    """Have every block keep the layout of its input from now on."""
    for module in unet.modules():
        if isinstance(module, ResidualBlock | AttentionBlock):
            module.one_layout = True


def fuse_norms(unet: nn.Module) -> None:
    """Have every residual block normalise, rectify and drop in one pass, where there is a kernel."""
    load_kernel()
    for module in unet.modules():
        if isinstance(module, ResidualBlock):
            module.fused = True


def _take_over(block: nn.Module, other: nn.Module) -> None:
    for name, child in other.named_children():
        block.add_module(name, child)
