"""One pass for group normalisation, scale and shift, SiLU and dropout: the kernels, in Triton.

For maps in channels-last, seen as (N, P, C): all channels of a pixel lie together, so each program
takes some pixels of one image with all their channels. Statistics and sums are in float32 (float64 for
maps in it) and are added in a fixed order: within a tile, over the tiles of a program, then over
programs, never atomically. Variances come from deviations from the mean of a tile (Chan, Golub and
LeVeque 1979), not from a difference of squares.

Triton decides on import whether it interprets (`TRITON_INTERPRET=1`): import this module when it is
needed, not before.

Shape letters: N images, P pixels, C channels, G groups, B programs of an image.
"""

from __future__ import annotations

import os

# Whether a * b + c is rounded once: said, because Triton's default is about to change, and bits with it.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["P"])
def moments(
    x,
    means,
    squares,
    P,
    C: tl.constexpr,
    BC: tl.constexpr,
    PP: tl.constexpr,
    TP: tl.constexpr,
    ACC: tl.constexpr,
):
    """Mean and sum of squared deviations of each channel over the pixels of a program."""
    n, b = tl.program_id(0), tl.program_id(1)
    c = tl.arange(0, BC)
    base = n.to(tl.int64) * P * C
    seen = tl.zeros([BC], ACC)
    mean = tl.zeros([BC], ACC)
    square = tl.zeros([BC], ACC)
    for start in range(0, PP, TP):
        p = b * PP + start + tl.arange(0, TP)
        mask = (p < P)[:, None] & (c < C)[None, :]
        v = tl.load(x + base + p[:, None] * C + c[None, :], mask=mask, other=0.0).to(ACC)
        here = tl.sum(mask.to(ACC), 0)
        tile_mean = tl.sum(v, 0) / tl.maximum(here, 1.0)
        d = tl.where(mask, v - tile_mean[None, :], 0.0)
        total = tl.maximum(seen + here, 1.0)
        delta = tile_mean - mean
        mean += delta * here / total
        square += tl.sum(d * d, 0) + delta * delta * seen * here / total
        seen += here
    at = (n * tl.num_programs(1) + b) * C + c
    tl.store(means + at, mean, mask=c < C)
    tl.store(squares + at, square, mask=c < C)


@triton.jit(do_not_specialize=["P"])
def statistics(
    means,
    squares,
    mean_out,
    rstd_out,
    eps,
    P,
    C: tl.constexpr,
    B: tl.constexpr,
    CG: tl.constexpr,
    BB: tl.constexpr,
    BCG: tl.constexpr,
    PP: tl.constexpr,
    ACC: tl.constexpr,
):
    """Mean and inverse standard deviation of each group."""
    n, g = tl.program_id(0), tl.program_id(1)
    b, c = tl.arange(0, BB), tl.arange(0, BCG)
    mask = (b < B)[:, None] & (c < CG)[None, :]
    at = (n * B + b)[:, None] * C + g * CG + c[None, :]
    mean_BC = tl.load(means + at, mask=mask, other=0.0)
    square_BC = tl.load(squares + at, mask=mask, other=0.0)
    pixels = tl.minimum(tl.maximum(P - b * PP, 0), PP).to(ACC)[:, None]
    values = (P * CG).to(ACC)
    mean = tl.sum(tl.sum(mean_BC * pixels, 1), 0) / values
    d = tl.where(mask, mean_BC - mean, 0.0)
    variance = tl.sum(tl.sum(square_BC + pixels * d * d, 1), 0) / values
    tl.store(mean_out + n * tl.num_programs(1) + g, mean)
    tl.store(rstd_out + n * tl.num_programs(1) + g, 1.0 / tl.sqrt(variance + eps))


@triton.jit
def _channel(
    weight,
    bias,
    scale,
    shift,
    mean_in,
    rstd_in,
    n,
    c,
    C: tl.constexpr,
    CG: tl.constexpr,
    SHIFTED: tl.constexpr,
    ACC: tl.constexpr,
):
    """What is the same for all pixels of a channel: mean, rstd, weight, bias, 1 + scale, shift."""
    inside = c < C
    at = n * (C // CG) + c // CG
    mean = tl.load(mean_in + at, mask=inside, other=0.0)
    rstd = tl.load(rstd_in + at, mask=inside, other=0.0)
    w = tl.load(weight + c, mask=inside, other=0.0).to(ACC)
    u = tl.load(bias + c, mask=inside, other=0.0).to(ACC)
    if SHIFTED:
        s = 1.0 + tl.load(scale + n * C + c, mask=inside, other=0.0).to(ACC)
        t = tl.load(shift + n * C + c, mask=inside, other=0.0).to(ACC)
    else:
        s = tl.full([1], 1.0, ACC)
        t = tl.full([1], 0.0, ACC)
    return mean, rstd, w, u, s, t


@triton.jit(do_not_specialize=["seed", "P"])
def forward(
    x,
    y,
    weight,
    bias,
    scale,
    shift,
    mean_in,
    rstd_in,
    seed,
    P,
    C: tl.constexpr,
    CG: tl.constexpr,
    BC: tl.constexpr,
    PP: tl.constexpr,
    TP: tl.constexpr,
    SHIFTED: tl.constexpr,
    DROP: tl.constexpr,
    ACC: tl.constexpr,
):
    """Normalise, scale, rectify and drop."""
    n, b = tl.program_id(0), tl.program_id(1)
    c = tl.arange(0, BC)
    mean, rstd, w, u, s, t = _channel(
        weight, bias, scale, shift, mean_in, rstd_in, n, c, C, CG, SHIFTED, ACC
    )
    base = n.to(tl.int64) * P * C
    for start in range(0, PP, TP):
        p = b * PP + start + tl.arange(0, TP)
        mask = (p < P)[:, None] & (c < C)[None, :]
        at = base + p[:, None] * C + c[None, :]
        v = tl.load(x + at, mask=mask, other=0.0).to(ACC)
        z = ((v - mean[None, :]) * rstd[None, :] * w[None, :] + u[None, :]) * s[None, :] + t[
            None, :
        ]
        out = z / (1.0 + tl.exp(-z))
        if DROP > 0:
            out = tl.where(tl.rand(seed, at.to(tl.int32)) >= DROP, out / (1.0 - DROP), 0.0)
        tl.store(y + at, out.to(y.dtype.element_ty), mask=mask)


@triton.jit
def _slope(v, dy, mean, rstd, w, u, s, t, seed, at, DROP: tl.constexpr):
    """The normalised value, and the gradient before SiLU."""
    hat = (v - mean[None, :]) * rstd[None, :]
    z = (hat * w[None, :] + u[None, :]) * s[None, :] + t[None, :]
    if DROP > 0:
        dy = tl.where(tl.rand(seed, at.to(tl.int32)) >= DROP, dy / (1.0 - DROP), 0.0)
    sigmoid = 1.0 / (1.0 + tl.exp(-z))
    return hat, dy * sigmoid * (1.0 + z * (1.0 - sigmoid))


@triton.jit(do_not_specialize=["seed", "P"])
def sums(
    x,
    dy,
    plain,
    times_hat,
    weight,
    bias,
    scale,
    shift,
    mean_in,
    rstd_in,
    seed,
    P,
    C: tl.constexpr,
    CG: tl.constexpr,
    BC: tl.constexpr,
    PP: tl.constexpr,
    TP: tl.constexpr,
    SHIFTED: tl.constexpr,
    DROP: tl.constexpr,
    ACC: tl.constexpr,
):
    """Sums of each channel's gradient over a program's pixels: by itself, and times the value."""
    n, b = tl.program_id(0), tl.program_id(1)
    c = tl.arange(0, BC)
    mean, rstd, w, u, s, t = _channel(
        weight, bias, scale, shift, mean_in, rstd_in, n, c, C, CG, SHIFTED, ACC
    )
    base = n.to(tl.int64) * P * C
    one = tl.zeros([BC], ACC)
    two = tl.zeros([BC], ACC)
    for start in range(0, PP, TP):
        p = b * PP + start + tl.arange(0, TP)
        mask = (p < P)[:, None] & (c < C)[None, :]
        at = base + p[:, None] * C + c[None, :]
        v = tl.load(x + at, mask=mask, other=0.0).to(ACC)
        g = tl.load(dy + at, mask=mask, other=0.0).to(ACC)
        hat, dz = _slope(v, g, mean, rstd, w, u, s, t, seed, at, DROP)
        dz = tl.where(mask, dz, 0.0)
        one += tl.sum(dz, 0)
        two += tl.sum(dz * hat, 0)
    out = (n * tl.num_programs(1) + b) * C + c
    tl.store(plain + out, one, mask=c < C)
    tl.store(times_hat + out, two, mask=c < C)


@triton.jit(do_not_specialize=["P"])
def totals(
    plain,
    times_hat,
    weight,
    scale,
    plain_out,
    times_out,
    first,
    second,
    P,
    C: tl.constexpr,
    B: tl.constexpr,
    CG: tl.constexpr,
    BB: tl.constexpr,
    BCG: tl.constexpr,
    SHIFTED: tl.constexpr,
    ACC: tl.constexpr,
):
    """The sums over all pixels, and the two means over a group that a normalised gradient needs."""
    n, g = tl.program_id(0), tl.program_id(1)
    b, c = tl.arange(0, BB), tl.arange(0, BCG)
    mask = (b < B)[:, None] & (c < CG)[None, :]
    at = (n * B + b)[:, None] * C + g * CG + c[None, :]
    one = tl.sum(tl.load(plain + at, mask=mask, other=0.0), 0)
    two = tl.sum(tl.load(times_hat + at, mask=mask, other=0.0), 0)
    channel = g * CG + c
    tl.store(plain_out + n * C + channel, one, mask=c < CG)
    tl.store(times_out + n * C + channel, two, mask=c < CG)
    w = tl.load(weight + channel, mask=c < CG, other=0.0).to(ACC)
    if SHIFTED:
        w *= 1.0 + tl.load(scale + n * C + channel, mask=c < CG, other=0.0).to(ACC)
    values = (P * CG).to(ACC)
    tl.store(first + n * tl.num_programs(1) + g, tl.sum(w * one, 0) / values)
    tl.store(second + n * tl.num_programs(1) + g, tl.sum(w * two, 0) / values)


@triton.jit(do_not_specialize=["seed", "P"])
def backward(
    x,
    dy,
    dx,
    weight,
    bias,
    scale,
    shift,
    mean_in,
    rstd_in,
    first,
    second,
    seed,
    P,
    C: tl.constexpr,
    CG: tl.constexpr,
    BC: tl.constexpr,
    PP: tl.constexpr,
    TP: tl.constexpr,
    SHIFTED: tl.constexpr,
    DROP: tl.constexpr,
    ACC: tl.constexpr,
):
    """The gradient of the input."""
    n, b = tl.program_id(0), tl.program_id(1)
    c = tl.arange(0, BC)
    mean, rstd, w, u, s, t = _channel(
        weight, bias, scale, shift, mean_in, rstd_in, n, c, C, CG, SHIFTED, ACC
    )
    group = n * (C // CG) + c // CG
    one = tl.load(first + group, mask=c < C, other=0.0)
    two = tl.load(second + group, mask=c < C, other=0.0)
    base = n.to(tl.int64) * P * C
    for start in range(0, PP, TP):
        p = b * PP + start + tl.arange(0, TP)
        mask = (p < P)[:, None] & (c < C)[None, :]
        at = base + p[:, None] * C + c[None, :]
        v = tl.load(x + at, mask=mask, other=0.0).to(ACC)
        g = tl.load(dy + at, mask=mask, other=0.0).to(ACC)
        hat, dz = _slope(v, g, mean, rstd, w, u, s, t, seed, at, DROP)
        out = rstd[None, :] * (dz * s[None, :] * w[None, :] - one[None, :] - hat * two[None, :])
        tl.store(dx + at, out.to(dx.dtype.element_ty), mask=mask)
