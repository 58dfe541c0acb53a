"""A network as a training loop calls it: in the run's precision and memory layout, maybe compiled."""

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.config import ComputeConfig
from trainables.networks.base import SegmentationNetwork
from trainables.networks.compiled import CompiledNetwork, Sizes


class TrainingNetwork:
    """Answers in float32 whatever the precision inside.

    Args:
        network: the network itself, whose parameters are trained. Moved to channels-last in place
            if asked for.
        compute: precision, layout and compilation.
        sizes: numbers of images to compile for, where that is asked for; see `CompiledNetwork`.

    Raises:
        CannotCompileError: if it is to be compiled and cannot be here.
    """

    def __init__(
        self, network: SegmentationNetwork, compute: ComputeConfig, sizes: Sizes | None = None
    ) -> None:
        self._bf16 = compute.precision == "bf16"
        self._layout = torch.channels_last if compute.channels_last else torch.contiguous_format
        network.to(memory_format=self._layout)
        if compute.one_layout:
            network.use_one_layout()
        if compute.fused_norm:
            network.fuse_norms()
        self._network: Callable[[Tensor, Tensor], Tensor] = network
        if compute.compile:
            self._network = CompiledNetwork(network, compute, sizes)

    def __call__(self, images_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """Return the raw outputs, (B, outputs, H, W) float32."""
        images_BCHW = images_BCHW.contiguous(memory_format=self._layout)
        with torch.autocast(images_BCHW.device.type, torch.bfloat16, enabled=self._bf16):
            answer = self._network(images_BCHW, t_B)
        return answer.float()
