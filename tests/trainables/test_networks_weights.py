"""Reading ImageNet weights: both styles of names, and files that do not fit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trainables.config import AdmConfig, DeepLabConfig, SegFormerConfig
from trainables.networks import build
from trainables.networks.weights import load_backbone

DEEPLAB = DeepLabConfig(blocks=(1, 1, 1, 1), base_width=8, expansion=1, atrous_rates=(1, 2, 3))
SEGFORMER = SegFormerConfig(widths=(16, 32, 40, 64), depths=(1, 1, 1, 1), decoder_channels=32)

# Names of transformers 4 as they stand in nvidia/mit-b3, by their module in version 5.
VERSION_4 = {
    "patch_embeddings.": "segformer.encoder.patch_embeddings.{i}.",
    "layer_norm.": "segformer.encoder.layer_norm.{i}.",
    "blocks.0.layernorm_before.": "segformer.encoder.block.{i}.0.layer_norm_1.",
    "blocks.0.layernorm_after.": "segformer.encoder.block.{i}.0.layer_norm_2.",
    "blocks.0.attention.q_proj.": "segformer.encoder.block.{i}.0.attention.self.query.",
    "blocks.0.attention.k_proj.": "segformer.encoder.block.{i}.0.attention.self.key.",
    "blocks.0.attention.v_proj.": "segformer.encoder.block.{i}.0.attention.self.value.",
    "blocks.0.attention.o_proj.": "segformer.encoder.block.{i}.0.attention.output.dense.",
    "blocks.0.attention.sequence_reduction.sequence_reduction.": (
        "segformer.encoder.block.{i}.0.attention.self.sr."
    ),
    "blocks.0.attention.sequence_reduction.layer_norm.": (
        "segformer.encoder.block.{i}.0.attention.self.layer_norm."
    ),
    "blocks.0.mlp.dwconv.": "segformer.encoder.block.{i}.0.mlp.dwconv.",
    "blocks.0.mlp.fc1.": "segformer.encoder.block.{i}.0.mlp.dense1.",
    "blocks.0.mlp.fc2.": "segformer.encoder.block.{i}.0.mlp.dense2.",
}


def version_4(name):
    _, stage, rest = name.split(".", 2)
    (module,) = (m for m in VERSION_4 if rest.startswith(m))
    return VERSION_4[module].format(i=stage) + rest.removeprefix(module)


def other_weights(network):
    """Return an encoder state that differs from the network's in every tensor."""
    return {
        n: t + 1 if t.is_floating_point() else t for n, t in network.encoder.state_dict().items()
    }


def write(path, tensors):
    if path.suffix == ".safetensors":
        save_file({n: t.contiguous() for n, t in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


def assert_loaded(network, weights):
    state = network.encoder.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_torchvision_resnet_file_fills_the_encoder_of_deeplab(tmp_path, ending):
    network = build(DEEPLAB, 2)
    weights = other_weights(network)
    classifier = {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    report = load_backbone(network, write(tmp_path / f"resnet{ending}", weights | classifier))
    assert_loaded(network, weights)
    assert set(report.loaded) == {f"model.backbone.{name}" for name in weights}
    assert report.unexpected == ("fc.bias", "fc.weight")
    assert all(name.startswith("model.classifier.") for name in report.new)


def test_the_names_asked_of_a_resnet_file_are_those_that_torchvision_publishes():
    from torchvision.models import resnet50

    with torch.device("meta"):
        published = set(resnet50(weights=None).state_dict()) - {"fc.weight", "fc.bias"}
        assert set(build(DeepLabConfig(), 2).encoder.state_dict()) == published


def test_a_file_from_before_batches_were_counted_is_complete(tmp_path):
    network = build(DEEPLAB, 2)
    weights = {n: t for n, t in other_weights(network).items() if "num_batches" not in n}
    report = load_backbone(network, write(tmp_path / "resnet.pth", weights))
    assert_loaded(network, weights)
    assert any("num_batches_tracked" in name for name in report.new)


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_a_version_4_file_fills_the_encoder_of_segformer(tmp_path, ending):
    network = build(SEGFORMER, 2)
    weights = other_weights(network)
    renamed = {version_4(name): tensor for name, tensor in weights.items()}
    assert len(renamed) == len(weights)
    classifier = {"classifier.weight": torch.zeros(10, 64), "classifier.bias": torch.zeros(10)}
    report = load_backbone(network, write(tmp_path / f"mit{ending}", renamed | classifier))
    assert_loaded(network, weights)
    assert report.unexpected == ("classifier.bias", "classifier.weight")
    assert all(name.startswith("model.decode_head.") for name in report.new)


@pytest.mark.parametrize("prefix", ["segformer.", ""])
def test_a_version_5_file_fills_the_encoder_of_segformer(tmp_path, prefix):
    network = build(SEGFORMER, 2)
    weights = other_weights(network)
    renamed = {prefix + name: tensor for name, tensor in weights.items()}
    report = load_backbone(network, write(tmp_path / "mit.safetensors", renamed))
    assert_loaded(network, weights)
    assert report.unexpected == ()


def test_a_missing_tensor_is_an_error_and_nothing_is_loaded(tmp_path):
    network = build(SEGFORMER, 2)
    weights = other_weights(network)
    del weights["stages.2.blocks.0.mlp.fc1.bias"]
    before = {n: t.clone() for n, t in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"lacks 1 tensors.*stages\.2\.blocks\.0\.mlp\.fc1\.bias"):
        load_backbone(network, write(tmp_path / "mit.safetensors", weights))
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())


def test_a_file_of_another_network_is_an_error(tmp_path):
    path = write(tmp_path / "resnet.pth", other_weights(build(DEEPLAB, 2)))
    with pytest.raises(ValueError, match=r"lacks \d+ tensors of the encoder.* and \d+ more"):
        load_backbone(build(SEGFORMER, 2), path)


def test_another_shape_is_an_error(tmp_path):
    path = write(tmp_path / "resnet.pth", other_weights(build(DEEPLAB, 2)))
    wider = build(DEEPLAB.model_copy(update={"base_width": 16}), 2)
    with pytest.raises(ValueError, match=r"layer1\.0\.conv1\.weight is \(8, .*\), not \(16, "):
        load_backbone(wider, path)


def test_the_adm_takes_no_imagenet_weights(tmp_path):
    config = AdmConfig(channels=32, multipliers=(1,), attention_rates=(), head_channels=32)
    with pytest.raises(ValueError, match="AdmUNet takes no ImageNet weights"):
        load_backbone(build(config, 2), tmp_path / "any.safetensors")


def test_another_ending_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="must end in"):
        load_backbone(build(DEEPLAB, 2), tmp_path / "weights.onnx")


class Touch:
    """Creates a file when unpickled by something that runs code."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_code_in_a_weight_file_is_not_run(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    torch.save({"conv1.weight": Touch(marker)}, path)
    with pytest.raises(ValueError, match="holds more than tensors"):
        load_backbone(build(DEEPLAB, 2), path)
    assert not marker.exists()


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_damaged_file_is_an_error(tmp_path, ending):
    path = write(tmp_path / f"resnet{ending}", other_weights(build(DEEPLAB, 2)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged"):
        load_backbone(build(DEEPLAB, 2), path)


def test_a_pickled_file_of_something_else_is_an_error(tmp_path):
    path = tmp_path / "list.pth"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match="not a plain dictionary"):
        load_backbone(build(DEEPLAB, 2), path)
