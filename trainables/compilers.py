"""What `torch.compile` and Triton's kernels need of a machine besides torch. No torch here: planners ask too."""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path


def why_not_compiled(mode: bool | str, *, gpu: bool) -> str | None:
    """Return why `compute.compile` of this value cannot be had here, as one line; None if it can.

    Args:
        gpu: whether runs are put on a GPU.
    """
    if mode == "reduce-overhead" and not gpu:
        return (
            "compute.compile=reduce-overhead records CUDA graphs and needs a GPU: on a CPU take "
            "compute.compile=true"
        )
    missing = missing_to_compile(gpu=gpu) if mode else None
    return missing and f"compute.compile: {missing}; or leave compute.compile=false"


def missing_to_compile(*, gpu: bool) -> str | None:
    """Return what keeps this machine from compiling, as one sentence with a remedy; None if nothing.

    Args:
        gpu: for a GPU, where Triton generates the code and wants a C compiler to load it, rather than
            for the CPU, where it is C++.
    """
    if gpu and importlib.util.find_spec("triton") is None:
        return "no Triton to generate code for a GPU with: install `triton`"
    if not _compiler(gpu=gpu):
        wanted = "a C compiler (`apt install gcc`, or name one in CC)"
        if not gpu:
            wanted = "a C++ compiler (`apt install g++`, or name one in CXX)"
        return f"no compiler on this machine: install {wanted}"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        return f"no {header}, which compiled code includes: install python3-dev"
    return None


def _compiler(*, gpu: bool) -> str | None:
    """Return the compiler that Triton, or inductor for a CPU, would call."""
    if not gpu:
        return shutil.which(os.environ.get("CXX") or "g++")
    if os.environ.get("CC"):
        return shutil.which(os.environ["CC"])
    return shutil.which("gcc") or shutil.which("clang")
