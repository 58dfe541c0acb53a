"""The network that a run starts from: fresh, from ImageNet weights, or from a pretraining.

The rule for the last layer is method.md's reading of the paper: it is kept where the pretraining
predicted the same number of classes, otherwise replaced by a new one with random, not zero, init.
"""

import torch
from safetensors.torch import load_file

from trainables.config import PretrainedRef, RunSpec
from trainables.loop import Places
from trainables.networks import SegmentationNetwork, build, head_path
from trainables.networks.weights import load_backbone

IMAGE_CHANNELS = 3
PRETRAININGS = ("diffusion", "hybrid", "supervised")
WEIGHTS_FILE = "weights.safetensors"


def pretraining_outputs(task: str, classes: int) -> int:
    """Return the output channels of a pretraining task: image, image and mask, or mask."""
    images = {"diffusion": IMAGE_CHANNELS, "hybrid": IMAGE_CHANNELS, "supervised": 0}[task]
    return images + (0 if task == "diffusion" else classes)


def fresh_network(spec: RunSpec, outputs: int, places: Places) -> SegmentationNetwork:
    """Return a network with random weights, the encoder from ImageNet where the spec says so.

    Raises:
        ValueError: if the spec wants ImageNet weights and `places` has none.
    """
    network = build(spec.network, outputs)
    if getattr(spec.network, "backbone", "random") == "imagenet1k":
        if places.backbone is None:
            raise ValueError(f"run {spec.key} needs ImageNet weights, `places.backbone` is empty")
        load_backbone(network, places.backbone)
    return network.to(places.device)


def pretrained_network(spec: RunSpec, places: Places) -> SegmentationNetwork:
    """Return the network of the pretraining, with the outputs it was pretrained for.

    Raises:
        ValueError: if the spec or the places name no pretraining.
    """
    if spec.pretrained is None or places.pretrained is None:
        raise ValueError(f"run {spec.key} needs a pretraining, `places.pretrained` is empty")
    tensors = load_file(places.pretrained / WEIGHTS_FILE)
    # As many as were pretrained: a task of the user's own may predict whatever it likes.
    outputs = len(tensors[f"{head_path(spec.network)}.weight"])
    # On the meta device: no memory, no time and no random numbers for weights that are replaced.
    with torch.device("meta"):
        network = build(spec.network, outputs)
    network.load_state_dict(tensors, assign=True)
    return network.to(places.device)


def segmentation_network(spec: RunSpec, places: Places) -> SegmentationNetwork:
    """Return the network that a fine-tuning starts from, with one output per target class."""
    classes = spec.dataset.classes
    if spec.pretrained is None:
        return fresh_network(spec, classes, places)
    network = pretrained_network(spec, places)
    if not keeps_head(spec.pretrained, classes, network.outputs):
        network.replace_head(classes)
    elif spec.pretrained.task == "hybrid":
        network.keep_outputs(IMAGE_CHANNELS)
    return network.to(places.device)


def keeps_head(pretrained: PretrainedRef, classes: int, outputs: int) -> bool:
    """Return whether the last layer of the pretraining already answers the target's classes."""
    if pretrained.task not in PRETRAININGS:
        return outputs == classes
    return pretrained.task != "diffusion" and pretrained.classes == classes
