"""The ADM against method.md: sizes, places and values, not the class that it is built from."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainables.config import AdmConfig
from trainables.networks import build

SMALL = AdmConfig(
    channels=32,
    multipliers=(1, 2, 2),
    blocks_per_level=1,
    attention_rates=(2, 4),
    head_channels=32,
    dropout=0.1,
)


def on_meta(config, outputs):
    """Build shapes only: the paper's network takes no memory and no time."""
    with torch.device("meta"):
        return build(config, outputs)


def size(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


# --- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (2, 138_285_314),
        (3, 138_286_467),
        (5, 138_288_773),
        (19, 138_304_915),
        (22, 138_308_374),
        (34, 138_322_210),
    ],
)
def test_paper_size_has_the_parameters_of_the_official_class(outputs, expected):
    assert size(on_meta(AdmConfig(), outputs)) == expected


@pytest.mark.parametrize(
    ("config", "outputs", "expected"),
    [
        (AdmConfig(channels=256), 6, 552_814_086),
        (AdmConfig(channels=32), 5, 8_675_237),
        (AdmConfig(channels=32), 22, 8_680_150),
        (AdmConfig(channels=64), 5, 34_615_109),
        (AdmConfig(multipliers=(1, 2, 3, 4), attention_rates=(2, 4, 8)), 5, 101_666_565),
        (
            AdmConfig(channels=64, multipliers=(1, 2, 3, 4), attention_rates=(2, 4, 8)),
            5,
            25_450_373,
        ),
        (
            AdmConfig(
                channels=32, multipliers=(1, 2, 2, 4), attention_rates=(2, 4, 8), head_channels=32
            ),
            5,
            5_362_565,
        ),
    ],
)
def test_other_sizes_have_the_parameters_of_the_official_class(config, outputs, expected):
    assert size(on_meta(config, outputs)) == expected


# Parameters of every block for 5 outputs: (input blocks 1 to 17), middle, (output blocks 0 to 17).
INPUT_BLOCKS = (
    *(427_008,) * 6,
    1_181_696,
    1_443_840,
    1_443_840,
    *(1_707_520,) * 2,
    1_443_840,
    5_250_048,
    6_298_624,
    5_246_976,
    *(6_298_624,) * 2,
)
OUTPUT_BLOCKS = (
    *(9_183_744,) * 2,
    14_430_720,
    *(9_183_744,) * 2,
    13_119_488,
    3_085_056,
    2_429_184,
    3_873_024,
    *(2_165_504,) * 2,
    3_281_408,
    771_712,
    607_616,
    1_034_624,
    *(607_616,) * 3,
)


def input_block(unet, index):
    level, position = divmod(index - 1, 3)
    block = unet.down_blocks[level]
    if position == 2:
        return [block.downsamplers[0]]
    return [block.resnets[position], *list(getattr(block, "attentions", []))[position:][:1]]


def output_block(unet, index):
    level, position = divmod(index, 3)
    block = unet.up_blocks[level]
    up = [block.upsamplers[0]] if position == 2 and block.upsamplers is not None else []
    return [block.resnets[position], *list(getattr(block, "attentions", []))[position:][:1], *up]


def test_every_block_has_its_parameters():
    unet = on_meta(AdmConfig(), 5).unet
    assert size(unet.time_embedding) == 328_704
    assert size(unet.conv_in) == 3_584
    assert tuple(size(*input_block(unet, i)) for i in range(1, 18)) == INPUT_BLOCKS
    assert size(unet.mid_block) == 11_545_600
    assert tuple(size(*output_block(unet, i)) for i in range(18)) == OUTPUT_BLOCKS
    assert size(unet.conv_norm_out, unet.conv_out) == 6_021


# --- places ------------------------------------------------------------------------------------


def attention_sides(config, side):
    """Return the image side at every self-attention, in order of execution."""
    network = on_meta(config, 3)
    sides = []
    for name, module in network.named_modules():
        if name.endswith("group_norm") and "attentions" in name:
            # Self-attention normalises flattened positions, (B, C, H * W).
            module.register_forward_pre_hook(
                lambda _, inputs: sides.append(round(inputs[0].shape[-1] ** 0.5))
            )
    images = torch.zeros(1, 3, side, side, device="meta")
    network(images, torch.zeros(1, dtype=torch.int64, device="meta"))
    return sides


def test_attention_at_256_pixels_is_at_32_16_and_8():
    down, middle, up = [32] * 2 + [16] * 2 + [8] * 2, [8], [8] * 3 + [16] * 3 + [32] * 3
    assert attention_sides(AdmConfig(), 256) == down + middle + up


def test_attention_follows_rates_not_resolutions_at_small_sizes():
    # Rates 8, 16 and 32 at 64 pixels: not the levels of 32, 16 and 8 pixels a side.
    down, middle, up = [8] * 2 + [4] * 2 + [2] * 2, [2], [2] * 3 + [4] * 3 + [8] * 3
    assert attention_sides(AdmConfig(channels=32), 64) == down + middle + up


def test_attention_of_the_64_pixel_shape():
    config = AdmConfig(channels=64, multipliers=(1, 2, 3, 4), attention_rates=(2, 4, 8))
    down, middle, up = [32] * 2 + [16] * 2 + [8] * 2, [8], [8] * 3 + [16] * 3 + [32] * 3
    assert attention_sides(config, 64) == down + middle + up


def test_middle_block_attends_even_without_attention_on_its_level():
    config = SMALL.model_copy(update={"attention_rates": ()})
    assert attention_sides(config, 32) == [8]


def tap_shapes(config, side, blocks):
    network = on_meta(config, 3)
    shapes = []
    for index in blocks:
        network.decoder_block(index).register_forward_hook(
            lambda _module, _inputs, output: shapes.append((output.shape[1], output.shape[2]))
        )
    images = torch.zeros(1, 3, side, side, device="meta")
    network(images, torch.zeros(1, dtype=torch.int64, device="meta"))
    return shapes


@pytest.mark.parametrize(
    ("channels", "image_side", "widths", "sides"),
    [
        (256, 256, (1024, 512, 512, 512, 256), (32, 32, 32, 64, 128)),
        (128, 256, (512, 256, 256, 256, 128), (32, 32, 32, 64, 128)),
        (64, 64, (256, 128, 128, 128, 64), (8, 8, 8, 16, 32)),
        (32, 64, (128, 64, 64, 64, 32), (8, 8, 8, 16, 32)),
        (32, 32, (128, 64, 64, 64, 32), (4, 4, 4, 8, 16)),
    ],
)
def test_ledm_taps_have_the_widths_and_sides_of_the_official_code(
    channels, image_side, widths, sides
):
    taps = tap_shapes(AdmConfig(channels=channels), image_side, (5, 6, 7, 8, 12))
    assert taps == list(zip(widths, sides, strict=True))


def test_small_networks_have_one_decoder_block_more_than_input_blocks_per_level():
    network = on_meta(SMALL, 3)
    assert network.num_decoder_blocks == 6
    taps = tap_shapes(SMALL, 32, range(6))
    assert taps == [(64, 8), (64, 16), (64, 16), (64, 32), (32, 32), (32, 32)]


@pytest.mark.parametrize("index", [-1, 6])
def test_a_decoder_block_that_does_not_exist_is_refused(index):
    with pytest.raises(IndexError, match="there are 6"):
        on_meta(SMALL, 3).decoder_block(index)


# --- values ------------------------------------------------------------------------------------


def test_a_fresh_network_answers_exactly_zero():
    network = build(SMALL, 5)
    answer = network(torch.randn(2, 3, 16, 16), torch.tensor([0, 999]))
    assert answer.shape == (2, 5, 16, 16)
    assert answer.abs().max() == 0


def test_a_fresh_network_has_59_zero_weights_and_their_biases():
    network = build(AdmConfig(channels=32), 5)
    zero = {n for n, p in network.named_parameters() if not p.any()}
    weights = {n for n in zero if n.endswith(".weight")}
    # 42 residual blocks, 16 attentions, 1 head.
    assert len(weights) == 59
    assert {n.removesuffix("weight") + "bias" for n in weights} <= zero


class ReferenceResidual(nn.Module):
    """Residual block of ADM, written from method.md 1.2."""

    def __init__(self, width_in, width_out, embedding, resample=None):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(32, width_in), nn.GroupNorm(32, width_out)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(embedding, 2 * width_out)
        self.conv_shortcut = nn.Conv2d(width_in, width_out, 1) if width_in != width_out else None
        self.resample = {
            None: lambda x: x,
            "down": lambda x: F.avg_pool2d(x, 2),
            "up": lambda x: x.repeat_interleave(2, -1).repeat_interleave(2, -2),
        }[resample]

    def forward(self, x, embedding):
        h = self.conv1(self.resample(F.silu(self.norm1(x))))
        scale, shift = self.time_emb_proj(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        x = self.resample(x)
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class ReferenceAttention(nn.Module):
    """Self-attention of ADM over flattened positions."""

    def __init__(self, width, head):
        super().__init__()
        self.head = head
        self.group_norm = nn.GroupNorm(32, width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x):
        b, c, height, width = x.shape
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (
            layer(tokens).unflatten(2, (-1, self.head)).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        quarter = self.head**-0.25
        mixed = ((q * quarter) @ (k * quarter).transpose(-1, -2)).softmax(-1) @ v
        tokens = self.to_out[0](mixed.transpose(1, 2).flatten(2))
        return x + tokens.transpose(1, 2).reshape(b, c, height, width)


class ReferenceAdm(nn.Module):
    """Three-level ADM as a flat list of input and output blocks, named as method.md 1.6 maps."""

    def __init__(self, config, outputs):
        super().__init__()
        base, head, embedding = config.channels, config.head_channels, 4 * config.channels
        widths = [base * m for m in config.multipliers]
        attends = [2**level in config.attention_rates for level in range(len(widths))]
        self.parts = nn.ModuleDict()
        self.inputs, self.decoder = [], []

        def add(kind, name, *args):
            self.parts[name.replace(".", "/")] = kind(*args)
            return name

        def residual(name, *args):
            return add(ReferenceResidual, name, *args)

        def attention(name, width):
            return [add(ReferenceAttention, name, width, head)]

        add(nn.Linear, "time_embedding.linear_1", base, embedding)
        add(nn.Linear, "time_embedding.linear_2", embedding, embedding)
        add(nn.Conv2d, "conv_in", 3, base, 3, 1, 1)
        current, stack = base, [base]
        for level, width in enumerate(widths):
            prefix = f"down_blocks.{level}"
            for r in range(config.blocks_per_level):
                block = [residual(f"{prefix}.resnets.{r}", current, width, embedding)]
                if attends[level]:
                    block += attention(f"{prefix}.attentions.{r}", width)
                self.inputs.append(block)
                current = width
                stack.append(current)
            if level < len(widths) - 1:
                name = f"{prefix}.downsamplers.0"
                self.inputs.append([residual(name, width, width, embedding, "down")])
                stack.append(width)
        self.middle = [
            residual("mid_block.resnets.0", current, current, embedding),
            *attention("mid_block.attentions.0", current),
            residual("mid_block.resnets.1", current, current, embedding),
        ]
        for up, level in enumerate(reversed(range(len(widths)))):
            prefix, width = f"up_blocks.{up}", widths[level]
            for r in range(config.blocks_per_level + 1):
                wide = current + stack.pop()
                block = [residual(f"{prefix}.resnets.{r}", wide, width, embedding)]
                if attends[level]:
                    block += attention(f"{prefix}.attentions.{r}", width)
                if level > 0 and r == config.blocks_per_level:
                    name = f"{prefix}.upsamplers.0"
                    block.append(residual(name, width, width, embedding, "up"))
                self.decoder.append(block)
                current = width
        add(nn.GroupNorm, "conv_norm_out", 32, base)
        add(nn.Conv2d, "conv_out", base, outputs, 3, 1, 1)

    def part(self, name):
        return self.parts[name.replace(".", "/")]

    def load(self, weights):
        """Take weights by the names of the network under test; both must have the same names."""
        self.load_state_dict(
            {
                f"parts.{self._own_name(name.removeprefix('unet.'))}": w
                for name, w in weights.items()
            }
        )

    def _own_name(self, name):
        part = max((p for p in self.parts if name.startswith(p.replace("/", ".") + ".")), key=len)
        return part + name[len(part) :]

    def run(self, block, h, embedding):
        for name in block:
            part = self.part(name)
            h = part(h, embedding) if isinstance(part, ReferenceResidual) else part(h)
        return h

    def forward(self, images, t):
        half = self.part("time_embedding.linear_1").in_features // 2
        frequencies = 10000 ** (-torch.arange(half) / half)
        angles = t[:, None] * frequencies
        wave = torch.cat([angles.cos(), angles.sin()], dim=1)
        hidden = F.silu(self.part("time_embedding.linear_1")(wave))
        embedding = self.part("time_embedding.linear_2")(hidden)
        h = self.part("conv_in")(images)
        stack = [h]
        for block in self.inputs:
            h = self.run(block, h, embedding)
            stack.append(h)
        h = self.run(self.middle, h, embedding)
        activations = []
        for block in self.decoder:
            h = self.run(block, torch.cat([h, stack.pop()], dim=1), embedding)
            activations.append(h)
        return self.part("conv_out")(F.silu(self.part("conv_norm_out")(h))), activations


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        AdmConfig(channels=32, multipliers=(1, 1, 2), attention_rates=(4,), head_channels=64),
    ],
    ids=["one block", "two blocks"],
)
def test_outputs_and_every_decoder_block_equal_an_independent_adm(config):
    torch.manual_seed(0)
    network = build(config, 5).eval()
    for parameter in network.parameters():
        # Everything random, so that nothing hides behind a zero.
        nn.init.normal_(parameter, std=0.08)
    reference = ReferenceAdm(config, 5)
    reference.load(network.state_dict())
    taps = {}
    for index in range(network.num_decoder_blocks):
        network.decoder_block(index).register_forward_hook(
            lambda _module, _inputs, output, index=index: taps.update({index: output})
        )
    images, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 640])
    with torch.no_grad():
        answer = network(images, t)
        expected, activations = reference(images, t)
    assert expected.std() > 0.05
    torch.testing.assert_close(answer, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        [taps[i] for i in range(len(activations))], activations, atol=1e-4, rtol=1e-4
    )


def test_dropout_is_off_at_evaluation():
    network = build(SMALL, 2)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.08)
    images, t = torch.randn(1, 3, 16, 16), torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        assert not torch.equal(network(images, t), network(images, t))
        network.eval()
        assert torch.equal(network(images, t), network(images, t))


# --- wrong input -------------------------------------------------------------------------------


def test_channels_that_do_not_split_into_groups_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        build(AdmConfig(channels=48), 2)


def test_levels_that_do_not_split_into_heads_are_refused():
    with pytest.raises(ValueError, match="heads of 64 channels do not divide a level of 32"):
        build(SMALL.model_copy(update={"head_channels": 64, "attention_rates": (1,)}), 2)


def test_an_image_that_cannot_be_halved_often_enough_is_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        build(SMALL, 2)(torch.zeros(1, 3, 18, 18), torch.zeros(1, dtype=torch.int64))
