"""ImageNet weights for the encoders of DeepLabV3 and SegFormer, from a local file.

Weight files are input from outside: `.safetensors` is preferred, and pickled files are read with
`weights_only`, which runs no code. Published files differ in what they call things, so names are
translated first and then must match the encoder exactly: weights that silently do not load would
make an ImageNet row of the table a row with random weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainables.config import DeepLabConfig, SegFormerConfig
from trainables.file_kinds import odd_kind
from trainables.networks import build
from trainables.networks.base import SegmentationNetwork
from trainables.networks.imagenet import ImagenetNetwork

PICKLED = (".pth", ".pt", ".bin")
SHOWN = 3  # Names listed in an error message before it says how many more there are.


@dataclass(frozen=True)
class KeyReport:
    """What a weight file did to a network, by parameter name."""

    loaded: tuple[str, ...]
    """Encoder parameters and statistics taken from the file."""

    new: tuple[str, ...]
    """Those of the network that the file has nothing for: they keep their random weights."""

    unexpected: tuple[str, ...]
    """Those of the file that the encoder has no place for, such as the ImageNet classifier."""


def store_backbone(family: str, source: Path, target: Path) -> KeyReport:
    """Check a weight file against the published encoder of a family, and store it as safetensors.

    The same tensors give the same file, whatever they came in. What the encoder has no place for,
    such as the ImageNet classifier, is left out.

    Args:
        family: `deeplab` or `segformer`.
        source: a file as for `load_backbone`, or a folder that holds one, such as a copy of a
            repository of the Hugging Face Hub.

    Raises:
        ValueError: if the file cannot be read or does not fit; nothing is then stored.
    """
    file = weight_file(source)
    config = DeepLabConfig() if family == "deeplab" else SegFormerConfig()
    with torch.device("meta"):
        network = build(config, 2)
    assert isinstance(network, ImagenetNetwork)
    network.encoder.to_empty(device="cpu")
    report = load_backbone(network, file)
    prefix = _prefix(network)
    loaded = {name.removeprefix(f"{prefix}.") for name in report.loaded}
    state = {
        name: t.contiguous() for name, t in network.encoder.state_dict().items() if name in loaded
    }
    partial = target.with_suffix(".partial")
    save_file(state, partial)
    partial.chmod(0o600)
    partial.rename(target)
    return report


def weight_file(source: Path) -> Path:
    """Return a file, or the one weight file of a folder, safetensors first.

    Raises:
        ValueError: if there is none, or several.
    """
    if not source.is_dir():
        if not source.is_file():
            raise ValueError(f"{source}: {odd_kind(source) or 'no such file or folder'}")
        source.open("rb").close()  # Says that it may not be read, which safetensors calls absent.
        return source
    for ending in (".safetensors", *PICKLED):
        found = sorted(source.glob(f"*{ending}"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ValueError(f"{source} has several weight files, name one: {names}")
        if found:
            return found[0]
    raise ValueError(f"{source} has no file that ends in .safetensors or {', '.join(PICKLED)}")


def published_url(family: str) -> str:
    """Return where a family's ImageNet weights are published."""
    if family == "segformer":
        return "https://huggingface.co/nvidia/mit-b3/resolve/main/pytorch_model.bin"
    from torchvision.models import ResNet50_Weights

    return f"{ResNet50_Weights.IMAGENET1K_V1.url}"


def load_backbone(network: SegmentationNetwork, path: Path) -> KeyReport:
    """Load ImageNet weights into the encoder of `network`; the decoder stays as it is.

    Args:
        network: DeepLab takes the names of torchvision's ResNet; SegFormer those of transformers 4
            and 5, with or without the prefix `segformer.`.
        path: `.safetensors`, or a pickled state dict.

    Raises:
        ValueError: if the network takes no ImageNet weights, if the file has another ending, or if
            it lacks a tensor of the encoder, has it in another shape, or with NaN or infinity in
            it. The network is then unchanged.
    """
    if not isinstance(network, ImagenetNetwork):
        raise ValueError(f"{type(network).__name__} takes no ImageNet weights")  # noqa: TRY004
    found = {_rename(name, network.FOREIGN_NAMES): t for name, t in _read(path).items()}
    encoder = network.encoder
    wanted = encoder.state_dict()
    _check(found, wanted, path)
    loaded = {name: found[name] for name in wanted if name in found}
    encoder.load_state_dict(wanted | loaded)
    prefix = _prefix(network)
    taken = {f"{prefix}.{name}" for name in loaded}
    return KeyReport(
        loaded=tuple(sorted(taken)),
        new=tuple(sorted(network.state_dict().keys() - taken)),
        unexpected=tuple(sorted(found.keys() - wanted.keys())),
    )


def _prefix(network: ImagenetNetwork) -> str:
    """Return the path of the encoder among the network's modules."""
    modules: Iterable[tuple[str, nn.Module]] = network.named_modules()
    return next(name for name, module in modules if module is network.encoder)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix not in (".safetensors", *PICKLED):
        raise ValueError(f"weights must end in .safetensors or {', '.join(PICKLED)}, got {path}")
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or holds more than tensors") from error
    if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
        raise ValueError(f"{path} is not a plain dictionary of tensors")
    return content


def _rename(name: str, renaming: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in renaming:
        name = re.sub(pattern, replacement, name)
    return name


def _check(found: dict[str, Tensor], wanted: dict[str, Tensor], path: Path) -> None:
    # Files from before 2018 do not count batches, and nothing here reads that count.
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")]
    missing = [name for name in needed if name not in found]
    if missing:
        raise ValueError(f"{path} lacks {len(missing)} tensors of the encoder: {_some(missing)}")
    misshapen = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if misshapen:
        raise ValueError(f"{path} does not fit the encoder: {_some(misshapen)}")
    broken = [name for name in needed if not torch.isfinite(found[name]).all()]
    if broken:
        raise ValueError(
            f"{path} has NaN or infinity in {len(broken)} tensors of the encoder: {_some(broken)}"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
