"""The fused normalisation in Triton's interpreter: run by `test_fused_norm` in a process that interprets."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trainables.networks.fused_norm import norm_silu, runs_fused
from trainables.networks.norm_function import FusedNorm, Settings

# Whole tiles and parts of one, channels that are no power of two, one pixel, several programs.
SHAPES = {
    "parts of tiles": (2, 96, 9, 7, 32),
    "one channel a group": (1, 32, 4, 4, 32),
    "one pixel": (3, 256, 1, 1, 32),
    "several programs": (1, 64, 40, 20, 32),
}
# Rounding of a sum over a group, in units of the largest value.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-2}


def given(shape, dtype, *, shifted=True):
    """Return a map far from zero, a normalisation and scale and shift, all with gradients."""
    images, channels, height, width, groups = shape
    torch.manual_seed(0)
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    values = torch.randn(images, channels, height, width, dtype=torch.float64) * 3 + 5
    maps = values.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    norm = nn.GroupNorm(groups, channels).to(sums)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    pair = [torch.randn(images, channels, dtype=sums, requires_grad=True) for _ in range(2)]
    return maps, norm, pair if shifted else []


def plainly(maps, norm, pair):
    """Compute it by the modules, in the precision of the sums."""
    hidden = norm(maps.to(norm.weight.dtype))
    if pair:
        hidden = hidden * (1 + pair[0][:, :, None, None]) + pair[1][:, :, None, None]
    return F.silu(hidden)


@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_the_plain_modules(shape, dtype, shifted):
    maps, norm, pair = given(SHAPES[shape], dtype, shifted=shifted)
    inputs = [maps, norm.weight, norm.bias, *pair]
    assert runs_fused(maps)
    answer = norm_silu(maps, norm, scale_shift=tuple(pair) or None, fused=True)
    assert answer.dtype == dtype
    assert answer.is_contiguous(memory_format=torch.channels_last)
    expected = plainly(maps, norm, pair)
    weights = torch.randn(answer.shape, dtype=norm.weight.dtype).to(dtype)
    got = [answer, *torch.autograd.grad(answer, inputs, weights)]
    wanted = [expected, *torch.autograd.grad(expected, inputs, weights.to(expected.dtype))]
    for one, other in zip(got, wanted, strict=True):
        largest = other.abs().max().item()
        difference = (one.double() - other.double()).abs().max().item()
        assert difference <= TOLERANCES[dtype] * max(largest, 1.0)


@pytest.mark.parametrize("drop", [0.0, 0.3])
def test_gradients_are_those_of_small_differences(drop):
    maps, norm, pair = given((1, 4, 2, 2, 2), torch.float64)
    settings = Settings(2, norm.eps, drop, 17, torch.float64)

    def fused(*tensors):
        return FusedNorm.apply(*tensors, settings)

    assert torch.autograd.gradcheck(fused, (maps, norm.weight, norm.bias, *pair))


def test_dropout_drops_its_share_scales_the_rest_and_follows_the_stream():
    maps, norm, pair = given((1, 32, 40, 40, 32), torch.float32)

    def dropped(seed):
        torch.manual_seed(seed)
        return norm_silu(maps, norm, scale_shift=tuple(pair), dropout=0.1, fused=True)

    whole = norm_silu(maps, norm, scale_shift=tuple(pair), fused=True)
    answer = dropped(1)
    kept = answer != 0
    # 51,200 draws: four standard deviations are 0.0053.
    assert abs((~kept & (whole != 0)).float().mean().item() - 0.1) < 0.0053
    torch.testing.assert_close(answer[kept], whole[kept] / 0.9)
    assert torch.equal(dropped(1), answer)
    assert not torch.equal(dropped(2) != 0, kept)
    (gradient,) = torch.autograd.grad(answer, pair[1], torch.ones_like(answer))
    assert gradient.isfinite().all()


def test_the_same_input_gives_the_same_bits():
    maps, norm, pair = given(SHAPES["several programs"], torch.float32)
    inputs = [maps, norm.weight, norm.bias, *pair]
    results = []
    for _ in range(2):
        answer = norm_silu(maps, norm, scale_shift=tuple(pair), fused=True)
        results.append([answer, *torch.autograd.grad(answer, inputs, torch.ones_like(answer))])
    assert all(map(torch.equal, *results))


def test_under_autocast_the_answer_is_in_its_precision():
    maps, norm, pair = given((1, 32, 4, 4, 32), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        answer = norm_silu(maps, norm, scale_shift=tuple(pair), fused=True)
    assert answer.dtype == torch.bfloat16
