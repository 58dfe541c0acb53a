"""What a pretraining promises: exact accumulation, options that train, the artifacts it leaves."""

import json

import pytest
import torch
from safetensors.torch import load_file

from trainables.config import ComputeConfig, RunSpec
from trainables.data.feeding.splits import hold_out
from trainables.data.store import ArrowDataset
from trainables.execute import execute
from trainables.registry import load


def trained(tiny, folder, task, *, training=None, **changes):
    """Run a pretraining to its end and return its weights and its result."""
    options = tiny.training(task).model_copy(update=training or {})
    places = tiny.places(folder, task)
    result = execute(tiny.spec(task, training=options, **changes), places)
    return load_file(places.artifacts / "weights.safetensors"), result


@pytest.mark.parametrize("task", ["diffusion", "hybrid", "supervised"])
def test_accumulated_gradients_are_those_of_the_whole_batch(tiny, tmp_path, task):
    # Without dropout, whose draws depend on the shape of what it is applied to.
    network = tiny.adm.model_copy(update={"dropout": 0.0})

    def after_two_updates(micro_batch):
        options = {"micro_batch": micro_batch, "updates": 2, "hold_out": 0.0}
        folder = tmp_path / str(micro_batch)
        return trained(tiny, folder, task, training=options, network=network)[0]

    whole, parts = after_two_updates(None), after_two_updates(3)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, atol=2e-5, rtol=1e-4)


def test_accumulation_is_refused_where_it_would_change_the_batch_statistics(tiny):
    from trainables.config import DeepLabConfig

    options = tiny.training("supervised").model_copy(update={"micro_batch": 2})
    with pytest.raises(ValueError, match="batch normalisation would see smaller batches"):
        tiny.spec("supervised", training=options, network=DeepLabConfig(backbone="random"))


def test_on_a_cpu_tf32_is_fp32_to_the_bit(tiny, tmp_path):
    plain, _ = trained(tiny, tmp_path / "plain", "hybrid")
    other, _ = trained(tiny, tmp_path / "other", "hybrid", compute=ComputeConfig(precision="fp32"))
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_bf16_trains_to_nearly_the_same_loss_and_not_to_the_same_bits(tiny, tmp_path):
    plain, expected = trained(tiny, tmp_path / "plain", "hybrid")
    compute = ComputeConfig(precision="bf16")
    other, result = trained(tiny, tmp_path / "other", "hybrid", compute=compute)
    assert result.metrics["final_loss"] == pytest.approx(expected.metrics["final_loss"], rel=0.1)
    assert any(not torch.equal(plain[name], other[name]) for name in plain)


def test_channels_last_lays_out_the_weights_and_trains_to_nearly_the_same_loss(tiny, tmp_path):
    _, expected = trained(tiny, tmp_path / "plain", "hybrid")
    compute = ComputeConfig(channels_last=True)
    run = load("hybrid")(tiny.spec("hybrid", compute=compute), tiny.places(tmp_path, "hybrid"))
    convolutions = [p for p in run.network.parameters() if p.dim() == 4 and p.shape[-1] == 3]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in convolutions)
    _, result = trained(tiny, tmp_path / "other", "hybrid", compute=compute)
    assert result.metrics["final_loss"] == pytest.approx(expected.metrics["final_loss"], rel=0.1)


def test_a_compiled_network_trains_as_the_plain_one_and_leaves_weights_of_the_same_names(
    tiny, tmp_path, monkeypatch
):
    # The graph that is compiled is run as it is: generating code for it takes a minute.
    compiled = []

    def compile_only_the_graph(network, *, dynamic, options):
        compiled.append(network)
        return torch_compile(network, dynamic=dynamic, backend="eager")

    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", compile_only_the_graph)
    training = {"updates": 2, "log_every": 1}
    plain, expected = trained(tiny, tmp_path / "plain", "diffusion", training=training)
    other, result = trained(
        tiny,
        tmp_path / "other",
        "diffusion",
        training=training,
        compute=ComputeConfig(compile=True),
    )
    assert len(compiled) == 1
    assert other.keys() == plain.keys()
    assert result.metrics["final_loss"] == pytest.approx(expected.metrics["final_loss"], rel=0.1)


def test_the_average_of_the_weights_is_what_is_stored_if_one_is_kept(tiny, tmp_path):
    plain, _ = trained(tiny, tmp_path / "plain", "diffusion")
    averaged, _ = trained(tiny, tmp_path / "averaged", "diffusion", training={"ema": True})
    assert any(not torch.equal(plain[name], averaged[name]) for name in plain)


def test_lambda_zero_trains_no_mask_channel(tiny, tmp_path):
    # The head starts at zero and gets no gradient; weight decay of zero stays zero.
    weights, _ = trained(tiny, tmp_path, "hybrid", training={"mask_weight": 0.0})
    head = weights["unet.conv_out.weight"]
    assert head[3:].abs().max() == 0
    assert head[:3].abs().max() > 0


def test_hybrid_refuses_a_pixel_without_a_label(tiny, tmp_path):
    run = load("hybrid")(tiny.spec("hybrid"), tiny.places(tmp_path, "hybrid"))
    labels = torch.zeros(1, 16, 16, dtype=torch.long)
    clean, answer = torch.zeros(1, 3, 16, 16), torch.zeros(1, 5, 16, 16)
    assert run.loss_B(clean, labels, answer, torch.ones(1)) > 0
    labels[0, 0, 0] = 255
    with pytest.raises(RuntimeError, match="Class values must be smaller than num_classes"):
        run.loss_B(clean, labels, answer, torch.ones(1))


def test_diffusion_and_hybrid_meet_the_same_noise(tiny, tmp_path):
    # Paired: with lambda 0 the hybrid task is the diffusion task, up to what the larger head draws.
    def first_loss(task):
        run = load(task)(
            tiny.spec(
                task,
                network=tiny.adm.model_copy(update={"dropout": 0.0}),
                training=tiny.training(task).model_copy(
                    update={"log_every": 1, "mask_weight": 0.0}
                ),
            ),
            tiny.places(tmp_path / task, task),
        )
        run.advance()
        return run.history[0].value

    # A fresh network answers 0 whatever its other weights are.
    assert first_loss("diffusion") == pytest.approx(first_loss("hybrid"), rel=1e-6)


def test_supervised_keeps_the_weights_that_score_best_on_the_hold_out(tiny, tmp_path):
    _, result = trained(tiny, tmp_path, "supervised")
    record = json.loads((tmp_path / "artifacts" / "result.json").read_text())
    scores = [value for name, _, value, _ in record["history"] if name == "val_jaccard"]
    assert len(scores) == 2  # every 3 of 6 updates
    assert result.metrics["best_val"] == max(scores)


def test_without_a_hold_out_nothing_is_selected(tiny, tmp_path):
    _, result = trained(tiny, tmp_path, "supervised", training={"hold_out": 0.0})
    assert "best_val" not in result.metrics
    split = json.loads((tmp_path / "artifacts" / "hold_out.json").read_text())
    assert (len(split["train"]), split["hold_out"]) == (20, [])


def test_the_ids_that_were_held_out_are_an_artifact(tiny, tmp_path):
    trained(tiny, tmp_path, "supervised", training={"hold_out": 0.25})
    split = json.loads((tmp_path / "artifacts" / "hold_out.json").read_text())
    source = ArrowDataset.open(tiny.folder(tiny.source), fingerprint=tiny.source.fingerprint)
    assert sorted(split["train"] + split["hold_out"]) == list(source.ids)
    _, held = hold_out(source.ids, 0.25, tiny.spec("supervised").seed)
    assert split["hold_out"] == [source.ids[i] for i in held]
    assert len(held) == 5


@pytest.mark.parametrize(("task", "rows"), [("diffusion", 1), ("hybrid", 2)])
def test_samples_are_drawn_as_a_picture_that_says_generated(tiny, tmp_path, task, rows):
    from PIL import Image

    trained(tiny, tmp_path, task)
    with Image.open(tmp_path / "artifacts" / "samples.png") as picture:
        assert picture.height > rows * 96
        assert picture.height < (rows + 1) * 96 + 32
        assert "generated data" in picture.info["Description"]


def test_the_stored_spec_is_the_run(tiny, tmp_path):
    trained(tiny, tmp_path, "diffusion")
    stored = RunSpec.model_validate_json((tmp_path / "artifacts" / "spec.json").read_text())
    assert stored == tiny.spec("diffusion")
    assert stored.key == tiny.spec("diffusion").key
