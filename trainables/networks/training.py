"""A network as a training loop calls it: in the run's precision and memory layout, maybe compiled."""

import torch
from torch import Tensor

from trainables.config import ComputeConfig
from trainables.networks.base import SegmentationNetwork


class TrainingNetwork:
    """Answers in float32 whatever the precision inside.

    Args:
        network: the network itself, whose parameters are trained. Moved to channels-last in place
            if asked for.
        compute: precision, layout and compilation.
    """

    def __init__(self, network: SegmentationNetwork, compute: ComputeConfig) -> None:
        self._bf16 = compute.precision == "bf16"
        self._layout = torch.channels_last if compute.channels_last else torch.contiguous_format
        network.to(memory_format=self._layout)
        if compute.one_layout:
            network.use_one_layout()
        if compute.fused_norm:
            network.fuse_norms()
        self._network = torch.compile(network) if compute.compile else network

    def __call__(self, images_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """Return the raw outputs, (B, outputs, H, W) float32."""
        images_BCHW = images_BCHW.contiguous(memory_format=self._layout)
        with torch.autocast(images_BCHW.device.type, torch.bfloat16, enabled=self._bf16):
            answer: Tensor = self._network(images_BCHW, t_B)
        return answer.float()
