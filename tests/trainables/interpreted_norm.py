"""The fused normalisation in Triton's interpreter: run by `test_fused_norm` in a process that interprets."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.trainables.interrupted import assert_same, killed_at, outcome
from trainables.config import AdmConfig, ComputeConfig, SamplingConfig
from trainables.execute import execute
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


def strided(maps):
    """Return the values in every second row and column of a larger map, in no layout at all."""
    images, channels, height, width = maps.shape
    room = torch.zeros(images, 2 * channels, 2 * height, 2 * width, dtype=maps.dtype)
    room[:, ::2, ::2, ::2] = maps
    return room[:, ::2, ::2, ::2]


LAYOUTS = {
    "contiguous": lambda maps: maps.contiguous(),
    "strided": strided,
    "transposed": lambda maps: maps.transpose(2, 3).contiguous().transpose(2, 3),
}
ODD = {
    "groups of three": (2, 12, 3, 5, 4),
    "five channels": (1, 5, 3, 3, 5),
    "one channel": (2, 1, 4, 3, 1),
    "one group": (1, 7, 5, 2, 1),
}


def checked(maps, norm, pair, weights, tolerance):
    """Hold answer and gradients to the modules'."""
    inputs = [maps, norm.weight, norm.bias, *pair]
    answer = norm_silu(maps, norm, scale_shift=tuple(pair), fused=True)
    expected = plainly(maps, norm, pair)
    got = [answer, *torch.autograd.grad(answer, inputs, weights.to(answer.dtype))]
    wanted = [expected, *torch.autograd.grad(expected, inputs, weights.to(expected.dtype))]
    for one, other in zip(got, wanted, strict=True):
        assert one.shape == other.shape
        largest = max(other.abs().max().item(), 1.0)
        assert (one.double() - other.double()).abs().max().item() <= tolerance * largest


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", ODD)
def test_any_layout_and_any_number_of_channels_will_do(shape, layout):
    maps, norm, pair = given(ODD[shape], torch.float64)
    maps = LAYOUTS[layout](maps.detach()).requires_grad_()
    # A gradient that is one number for all, as a sum hands back, has no layout either.
    checked(maps, norm, pair, torch.ones((), dtype=torch.float64).expand(maps.shape), 1e-11)


@pytest.mark.parametrize(
    ("factor", "dtype", "tolerance"),
    [(1e4, torch.float32, 1e-3), (1e15, torch.float32, 1e-3), (1e4, torch.bfloat16, 5e-2)],
)
def test_huge_values_are_normalised_too(factor, dtype, tolerance):
    maps, norm, pair = given((2, 32, 4, 4, 8), torch.float32)
    maps = (maps.detach() * factor).to(dtype).requires_grad_()
    checked(maps, norm, pair, torch.ones(maps.shape), tolerance)


def test_a_map_of_one_value_has_the_gradients_of_arithmetic_but_for_rounding():
    maps, norm, pair = given((1, 32, 4, 4, 32), torch.float32)
    maps = torch.full_like(maps, 7.0).requires_grad_()
    inputs = [maps, norm.weight, norm.bias, *pair]
    answer = norm_silu(maps, norm, scale_shift=tuple(pair), fused=True)
    got = [answer, *torch.autograd.grad(answer, inputs, torch.ones_like(answer))]
    norm, maps = norm.double(), maps.detach().double().requires_grad_()
    pair = [each.detach().double().requires_grad_() for each in pair]
    exact = plainly(maps, norm, pair)
    inputs = [maps, norm.weight, norm.bias, *pair]
    wanted = [exact, *torch.autograd.grad(exact, inputs, torch.ones_like(exact))]
    # Without variance, the map's gradient is a difference that vanishes, times 1 / sqrt(eps) = 316: so is its rounding.
    rounding = [2e-5, 4 * 2.0**-23 * norm.eps**-0.5, 2e-5, 2e-5, 2e-5, 2e-5]
    for one, other, most in zip(got, wanted, rounding, strict=True):
        assert (one - other).abs().max() <= most * max(other.abs().max().item(), 1.0)


def test_what_is_far_from_zero_after_it_gives_no_number_that_is_none():
    maps, norm, pair = given((1, 32, 4, 4, 32), torch.float32)
    shift = torch.linspace(-1e38, 1e38, 32)[None].requires_grad_()
    answer = norm_silu(maps, norm, scale_shift=(pair[0], shift), fused=True)
    gradients = torch.autograd.grad(answer.mul(1e-30).sum(), [maps, shift])
    assert all(each.isfinite().all() for each in (answer, *gradients))


def test_no_images_are_normalised_to_no_images():
    norm = nn.GroupNorm(32, 32)
    maps = torch.zeros(0, 32, 4, 4, requires_grad=True)
    answer = norm_silu(maps, norm, fused=True)
    assert answer.shape == maps.shape


def test_nearly_everything_may_be_dropped():
    maps, norm, pair = given((1, 32, 20, 20, 32), torch.float32)
    answer = norm_silu(maps, norm, scale_shift=tuple(pair), dropout=0.99, fused=True)
    (gradient,) = torch.autograd.grad(answer.sum(), pair[1])
    assert 0 < (answer != 0).float().mean() < 0.02
    assert gradient.isfinite().all()


def test_a_second_derivative_is_refused_rather_than_wrong():
    maps, norm, _ = given((1, 4, 2, 2, 2), torch.float64)
    answer = norm_silu(maps, norm, fused=True)
    weights = torch.ones_like(answer).requires_grad_()
    (gradient,) = torch.autograd.grad(answer, maps, weights, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_run_that_was_killed_goes_on_dropping_what_it_would_have(tiny, tmp_path_factory):
    compute = ComputeConfig(one_layout=True, channels_last=True, fused_norm=True)
    network = AdmConfig(
        channels=32, multipliers=(1,), blocks_per_level=1, attention_rates=(), head_channels=32
    )
    training = tiny.training("hybrid").model_copy(
        update={"updates": 3, "batch": 2, "log_every": 1, "sampling": SamplingConfig(images=0)}
    )
    spec = tiny.spec("hybrid", network=network, training=training, compute=compute)
    unbroken, broken = (tiny.places(tmp_path_factory.mktemp(n), "hybrid") for n in ("a", "b"))
    execute(spec, unbroken)
    killed_at(2, spec, broken)
    execute(spec, broken)
    assert_same(outcome(broken), outcome(unbroken))
