"""A network compiled by `torch.compile`, so that a run has the same bits in whichever process it goes on.

* Shapes are fixed (`dynamic=False`). Only batches of the usual sizes are compiled, which follow from
  the spec and the dataset; a rare smaller batch is computed by the network as it is. So the number of
  compilations is bounded, and the same batch is computed in the same way before and after a resume.
* What was compiled for runs before is forgotten first: past its limit of graphs per process PyTorch
  would go on without compiling, and the bits would follow from what a worker did before.
* Nothing is chosen by a stopwatch where `compute.deterministic` is on.
* Code is cached on this machine, by version of torch, in a folder of this user only, because what lies
  there is run.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainables.compilers import why_not_compiled
from trainables.config import ComputeConfig
from trainables.networks.base import SegmentationNetwork
from trainables.storage import cache_folder

Sizes = Callable[[], Collection[int]]
"""Numbers of images that are compiled for."""


class CannotCompileError(Exception):
    """`compute.compile` asks for what this machine cannot do."""


class CompiledNetwork:
    """Calls `network` by code made for it, in batches of the usual sizes.

    Args:
        network: whose parameters are used, in place; its names stay what they are.
        compute: how to compile; `compile` is on.
        sizes: asked once, at the first call; None compiles every size, and refuses a ninth.

    Raises:
        CannotCompileError: if a compiler, Triton or a GPU is missing.
    """

    def __init__(
        self, network: SegmentationNetwork, compute: ComputeConfig, sizes: Sizes | None
    ) -> None:
        device = next(network.parameters()).device.type
        trouble = why_not_compiled(compute.compile, gpu=device == "cuda")
        if trouble:
            raise CannotCompileError(trouble)
        self._graphs = compute.records_graphs
        self._ask, self._sizes = sizes, frozenset[int]()
        self._as_it_is: Callable[[Tensor, Tensor], Tensor] = network
        _prepare(device, compute.threads)
        self._compiled = torch.compile(network, dynamic=False, options=_options(compute))

    def __call__(self, images_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """Return the raw outputs, as the network does."""
        if self._ask is not None:
            self._sizes = self._sizes or frozenset(self._ask())
            if len(images_BCHW) not in self._sizes:
                return self._as_it_is(images_BCHW, t_B)
        if self._graphs:
            # Nothing of the pass before is read any more: its memory may be used again.
            torch.compiler.cudagraph_mark_step_begin()
        answer: Tensor = self._compiled(images_BCHW, t_B)
        return answer


def _options(compute: ComputeConfig) -> dict[str, Any]:
    return {
        # Its heuristic gives up channels-last for the whole network because of one layer of few outputs.
        "force_layout_optimization": True,
        "deterministic": compute.deterministic,
        "triton.cudagraphs": compute.records_graphs,
    }


def _prepare(device: str, threads: int) -> None:
    import torch._dynamo.config
    import torch._inductor.config

    use_code_cache()
    torch.compiler.reset()
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    if device == "cpu":
        # A process per core to compile in is too much where each worker of a sweep has one core.
        torch._inductor.config.compile_threads = threads


def use_code_cache() -> None:
    """Have compiled code kept in this machine's cache, or for this process only where that cannot be.

    A folder that the user named (TORCHINDUCTOR_CACHE_DIR, TRITON_CACHE_DIR) stays.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # PyTorch writes its default there as soon as some library looks.
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(_own_folder(code_folder()))
    inductor = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    os.environ.setdefault("TRITON_CACHE_DIR", str(inductor / "triton"))


def code_folder() -> Path:
    """Return where this machine keeps code compiled by this version of torch."""
    return cache_folder() / "compiled" / f"torch-{torch.__version__}"


def _own_folder(folder: Path) -> Path:
    """Return the folder if it is this user's alone and can be written, else one that goes at the end."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
        shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if found.st_uid == os.getuid() and not shared and os.access(folder, os.W_OK | os.X_OK):
            return folder
    except OSError:
        pass
    temporary = tempfile.mkdtemp(prefix="hdsweep-compiled-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return Path(temporary)
