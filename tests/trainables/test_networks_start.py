"""What a fine-tuning keeps of its pretraining: method.md's rule for the last layer."""

import pytest
import torch
from safetensors.torch import save_file

from trainables.config import DeepLabConfig, PretrainedRef, SegFormerConfig
from trainables.networks import build
from trainables.networks.start import (
    WEIGHTS_FILE,
    pretrained_network,
    pretraining_outputs,
    segmentation_network,
)

SIDE = 16


def pretrained(tiny, folder, task, source_classes):
    """Return the network of a pretraining with a head that is not zero, and where it is stored."""
    torch.manual_seed(1)
    network = build(tiny.adm, pretraining_outputs(task, source_classes))
    torch.nn.init.normal_(network.head.weight)
    torch.nn.init.normal_(network.head.bias)
    folder.mkdir(exist_ok=True)
    save_file(network.state_dict(), folder / WEIGHTS_FILE)
    return network.eval()


def started(tiny, folder, task, source_classes, target_classes):
    spec = tiny.spec(
        "finetune", pretrained=PretrainedRef(key="0" * 16, task=task, classes=source_classes)
    )
    dataset = spec.dataset.model_copy(update={"classes": target_classes})
    spec = spec.model_copy(update={"dataset": dataset})
    return segmentation_network(spec, tiny.places(folder, "finetune", folder)).eval()


def answers(network):
    images = torch.linspace(-1, 1, 3 * SIDE * SIDE).reshape(1, 3, SIDE, SIDE)
    with torch.no_grad():
        return network(images, torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize(
    ("task", "classes", "outputs"),
    [("diffusion", 2, 3), ("hybrid", 2, 5), ("hybrid", 19, 22), ("supervised", 19, 19)],
)
def test_what_a_pretraining_answers(task, classes, outputs):
    assert pretraining_outputs(task, classes) == outputs


def test_supervised_keeps_its_head_for_as_many_classes(tiny, tmp_path):
    source = pretrained(tiny, tmp_path, "supervised", 2)
    torch.testing.assert_close(
        answers(started(tiny, tmp_path, "supervised", 2, 2)), answers(source)
    )


def test_hybrid_keeps_its_mask_channels_as_logits(tiny, tmp_path):
    source = pretrained(tiny, tmp_path, "hybrid", 2)
    kept = answers(started(tiny, tmp_path, "hybrid", 2, 2))
    torch.testing.assert_close(kept, answers(source)[:, 3:])


@pytest.mark.parametrize(
    ("task", "source_classes", "target_classes"),
    [("diffusion", 2, 2), ("diffusion", 2, 3), ("supervised", 19, 34), ("hybrid", 19, 34)],
)
def test_any_other_head_is_new_and_random(tiny, tmp_path, task, source_classes, target_classes):
    pretrained(tiny, tmp_path, task, source_classes)
    network = started(tiny, tmp_path, task, source_classes, target_classes)
    assert network.outputs == target_classes
    # PyTorch's default, uniform within 1/sqrt(fan in), and not the zeros of a fresh ADM.
    bound = (32 * 9) ** -0.5
    weight = network.head.weight.detach()
    assert 0.9 * bound < weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize(
    "config",
    [
        None,
        DeepLabConfig(backbone="random", blocks=(1, 1, 1, 1), base_width=8),
        SegFormerConfig(
            backbone="random", widths=(8, 16, 24, 32), depths=(1, 1, 1, 1), reductions=(4, 2, 1, 1)
        ),
    ],
    ids=["adm", "deeplab", "segformer"],
)
def test_loading_draws_nothing_and_leaves_the_file_as_it_was(tiny, tmp_path, config):
    torch.manual_seed(1)
    config = config or tiny.adm
    source = build(config, 2).eval()
    file = tmp_path / WEIGHTS_FILE
    save_file(source.state_dict(), file)
    before = file.read_bytes()
    spec = tiny.spec(
        "finetune", pretrained=PretrainedRef(key="0" * 16, task="supervised", classes=2)
    ).model_copy(update={"network": config})
    state = torch.get_rng_state()
    network = pretrained_network(spec, tiny.places(tmp_path, "finetune", tmp_path)).eval()
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(answers(network), answers(source))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)  # as training does; the weights are mapped from the file
    assert file.read_bytes() == before


def test_everything_but_the_head_comes_from_the_pretraining(tiny, tmp_path):
    source = pretrained(tiny, tmp_path, "diffusion", 2).state_dict()
    state = started(tiny, tmp_path, "diffusion", 2, 2).state_dict()
    for name, tensor in source.items():
        if not name.startswith("unet.conv_out"):
            assert torch.equal(state[name], tensor), name


def test_a_missing_pretraining_is_named(tiny, tmp_path):
    spec = tiny.spec("finetune", pretrained=PretrainedRef(key="0" * 16, task="hybrid", classes=2))
    with pytest.raises(ValueError, match="needs a pretraining"):
        segmentation_network(spec, tiny.places(tmp_path, "finetune"))
