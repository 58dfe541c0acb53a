"""The ADM twice without our code: in plain PyTorch, and as diffusers runs it; what ours is timed beside.

`PlainAdm` is written from the description of its blocks (Dhariwal & Nichol 2021, arXiv 2105.05233), not from its
code, and not theirs: group normalisation in float32 and cast back, one matrix for queries, keys and
values, softmax in float32 with the scale split over queries and keys, attention computed again in the
backward pass, default layout. Weights are PyTorch's own; only its time and memory are of interest.

Shape suffixes: B batch, C channels, H height, W width, P pixels, E width of the time embedding.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainables.config import AdmConfig
from trainables.networks.adm import _unet

GROUPS = 32


class DiffusersAdm(nn.Module):
    """The ADM as diffusers runs it: `UNet2DModel` with its own blocks, which ours replace."""

    def __init__(self, config: AdmConfig, outputs: int) -> None:
        super().__init__()
        self.unet = _unet(config, outputs)

    def forward(self, images_BCHW: Tensor, t_B: Tensor) -> Tensor:
        answer: Tensor = self.unet(images_BCHW, t_B, return_dict=False)[0]
        return answer


class PlainAdm(nn.Module):
    """The ADM with `outputs` channels; images_BCHW and t_B to outputs of the images' size."""

    def __init__(self, config: AdmConfig, outputs: int) -> None:
        super().__init__()
        self._frequencies = config.channels // 2
        embedded = 4 * config.channels
        self.time = nn.Sequential(
            nn.Linear(config.channels, embedded), nn.SiLU(), nn.Linear(embedded, embedded)
        )
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        attends = [2**level in config.attention_rates for level in range(len(widths))]
        self.first = nn.Conv2d(3, widths[0], 3, padding=1)
        self.downs, skips = _downs(config, widths, attends, embedded)
        last = widths[-1]
        self.middle = nn.ModuleList(
            [
                _Residual(last, last, embedded, config.dropout),
                _Attention(last, config.head_channels),
            ]
            + [_Residual(last, last, embedded, config.dropout)]
        )
        self.ups = _ups(config, widths, attends, embedded, skips)
        self.head = nn.Sequential(
            _GroupNorm32(GROUPS, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], outputs, 3, padding=1)
        )

    def forward(self, images_BCHW: Tensor, t_B: Tensor) -> Tensor:
        embedded_BE = self.time(_sinusoids(t_B, self._frequencies))
        hidden = self.first(images_BCHW)
        skips = [hidden]
        for block in self.downs:
            hidden = _through(block, hidden, embedded_BE)
            skips.append(hidden)
        hidden = _through(self.middle, hidden, embedded_BE)
        for block in self.ups:
            hidden = _through(block, torch.cat([hidden, skips.pop()], 1), embedded_BE)
        answer: Tensor = self.head(hidden)
        return answer


def _through(block: nn.Module, hidden: Tensor, embedded_BE: Tensor) -> Tensor:
    for layer in block.children():
        hidden = layer(hidden, embedded_BE) if isinstance(layer, _Residual) else layer(hidden)
    return hidden


def _downs(
    config: AdmConfig, widths: list[int], attends: list[bool], embedded: int
) -> tuple[nn.ModuleList, list[int]]:
    blocks, skips, current = nn.ModuleList(), [widths[0]], widths[0]
    for level, width in enumerate(widths):
        for _ in range(config.blocks_per_level):
            layers: list[nn.Module] = [_Residual(current, width, embedded, config.dropout)]
            if attends[level]:
                layers.append(_Attention(width, config.head_channels))
            blocks.append(nn.ModuleList(layers))
            skips.append(width)
            current = width
        if level < len(widths) - 1:
            down = _Residual(width, width, embedded, config.dropout, down=True)
            blocks.append(nn.ModuleList([down]))
            skips.append(width)
    return blocks, skips


def _ups(
    config: AdmConfig, widths: list[int], attends: list[bool], embedded: int, skips: list[int]
) -> nn.ModuleList:
    blocks, current = nn.ModuleList(), widths[-1]
    for level in range(len(widths) - 1, -1, -1):
        width = widths[level]
        for position in range(config.blocks_per_level + 1):
            layers: list[nn.Module] = [
                _Residual(current + skips.pop(), width, embedded, config.dropout)
            ]
            if attends[level]:
                layers.append(_Attention(width, config.head_channels))
            if level and position == config.blocks_per_level:
                layers.append(_Residual(width, width, embedded, config.dropout, up=True))
            blocks.append(nn.ModuleList(layers))
            current = width
    return blocks


def _sinusoids(t_B: Tensor, frequencies: int) -> Tensor:
    steps = torch.arange(frequencies, dtype=torch.float32, device=t_B.device) / frequencies
    angles = t_B[:, None].float() * torch.exp(-math.log(10_000) * steps)
    return torch.cat([angles.cos(), angles.sin()], 1)


class _GroupNorm32(nn.GroupNorm):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.float()).to(input.dtype)


class _Residual(nn.Module):
    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedded: int,
        dropout: float,
        *,
        up: bool = False,
        down: bool = False,
    ) -> None:
        super().__init__()
        self._up, self._down = up, down
        self.before = nn.Sequential(_GroupNorm32(GROUPS, inputs), nn.SiLU())
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.embed = nn.Sequential(nn.SiLU(), nn.Linear(embedded, 2 * outputs))
        self.norm = _GroupNorm32(GROUPS, outputs)
        self.after = nn.Sequential(
            nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, input: Tensor, embedded_BE: Tensor) -> Tensor:
        hidden = self.conv1(self._resampled(self.before(input)))
        scale, shift = self.embed(embedded_BE)[:, :, None, None].chunk(2, 1)
        hidden = self.after(self.norm(hidden) * (1 + scale) + shift)
        total: Tensor = self.skip(self._resampled(input)) + hidden
        return total

    def _resampled(self, value: Tensor) -> Tensor:
        if self._up:
            return F.interpolate(value, scale_factor=2, mode="nearest")
        return F.avg_pool2d(value, 2) if self._down else value


class _Attention(nn.Module):
    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self._heads = channels // head_channels
        self.norm = _GroupNorm32(GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.project = nn.Conv1d(channels, channels, 1)

    def forward(self, input: Tensor) -> Tensor:
        # Computed again in the backward pass, as in the published code.
        result: Tensor = checkpoint(self._attended, input, use_reentrant=False)
        return result

    def _attended(self, input: Tensor) -> Tensor:
        batch, channels, height, width = input.shape
        flat_BCP = input.reshape(batch, channels, -1)
        qkv = self.qkv(self.norm(flat_BCP)).reshape(batch * self._heads, -1, height * width)
        q, k, v = qkv.chunk(3, 1)
        scale = q.shape[1] ** -0.25
        weights = torch.einsum("bct,bcs->bts", q * scale, k * scale)
        weights = weights.float().softmax(-1).to(weights.dtype)
        mixed = torch.einsum("bts,bcs->bct", weights, v).reshape(batch, channels, -1)
        return (flat_BCP + self.project(mixed)).reshape(input.shape)


def filled(network: nn.Module) -> nn.Module:
    """Return the network with the tensors that start at zero drawn, as they are once it has trained.

    Half of an ADM's do, and products with zeros may be faster than others.
    """
    draws = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():
            values = torch.empty(parameter.shape).normal_(0, 0.02, generator=draws)
            parameter.data.copy_(values)
    return network
