"""The fused normalisation: interpreted on the CPU, compiled for a GPU that is not there, and the way around."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from trainables.networks.fused_norm import norm_silu, runs_fused

INTERPRETED = Path(__file__).with_name("interpreted_norm.py")


@pytest.mark.slow
def test_in_triton_s_interpreter_the_kernel_computes_what_the_modules_do():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(INTERPRETED)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


FLOATS = (
    "weight bias mean_in rstd_in means squares mean_out rstd_out plain times_hat plain_out times_out"
    " first second"
)
TYPES = {
    **dict.fromkeys(FLOATS.split(), "*fp32"),
    **dict.fromkeys(("x", "y", "dx", "dy", "scale", "shift"), "*bf16"),
    "eps": "fp32",
    "P": "i32",
    "seed": "i32",
}


@pytest.mark.slow
@pytest.mark.parametrize("channels", [128, 384])
def test_the_kernels_compile_for_an_h200(channels):
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from trainables.networks import norm_kernels as kernels
    from trainables.networks.norm_function import Sizes

    maps = torch.empty(16, channels, 64, 64, dtype=torch.bfloat16, device="meta")
    sizes = Sizes(maps, 32, shifted=True, drop=0.1)
    told = {**sizes.by_channel, **sizes.by_group}
    for name in ("moments", "statistics", "forward", "sums", "totals", "backward"):
        kernel = getattr(kernels, name)
        constants = {each: told[each] for each in kernel.arg_names if each not in TYPES}
        signature = {
            each: "constexpr" if each in constants else TYPES[each] for each in kernel.arg_names
        }
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]


def test_without_a_gpu_the_same_formula_is_computed_by_the_modules():
    torch.manual_seed(0)
    maps, norm = torch.randn(2, 32, 4, 4), nn.GroupNorm(32, 32)
    scale, shift = torch.randn(2, 32), torch.randn(2, 32)
    assert not runs_fused(maps)
    plain = norm_silu(maps, norm, scale_shift=(scale, shift))
    assert torch.equal(norm_silu(maps, norm, scale_shift=(scale, shift), fused=True), plain)
    hidden = norm(maps) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    torch.testing.assert_close(plain, hidden * torch.sigmoid(hidden))
