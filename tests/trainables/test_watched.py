"""What waits for the device: nothing between two logged losses, and one look at each of those."""

import sys
from dataclasses import astuple

import pytest
import torch
from torch.overrides import TorchFunctionMode

from trainables import evaluation
from trainables.adaptation.finetune import FineTuning
from trainables.adaptation.target import Target
from trainables.config import FineTuningConfig, OptimizerConfig
from trainables.data.feeding.batches import tensors_on
from trainables.evaluation import score_each
from trainables.execute import execute
from trainables.loop import Diverged, Run
from trainables.registry import load

# Python asks for numbers by these, and by nothing else of ours.
WAITING = {
    getattr(torch.Tensor, name): name
    for name in (
        *("item", "tolist", "numpy", "cpu", "nonzero", "unique"),
        *("__bool__", "__float__", "__int__", "__index__"),
    )
}


class Waits(TorchFunctionMode):
    """Lists every call that would wait for a device, by name and by the file that it is made in."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in WAITING:
            file = sys._getframe(1).f_code.co_filename
            # The optimizer counts its steps on the CPU, whatever the device.
            if "torch/optim" not in file:
                self.seen.append(WAITING[func])
        return func(*args, **(kwargs or {}))


@pytest.fixture
def beside(monkeypatch):
    """Have runs take the CPU for a device that trains by itself."""
    monkeypatch.setattr(Run, "beside", True)


def made(tiny, folder, task):
    training = tiny.training(task)
    if task == "finetune":
        changes = {"train_images": 12}  # Three batches, so that an epoch has updates within.
    else:
        changes = {"log_every": 3, "evaluate_every": 100, "updates": 6, "ema": task == "hybrid"}
    spec = tiny.spec(task, training=training.model_copy(update=changes))
    return load(task)(spec, tiny.places(folder, task))


@pytest.mark.parametrize("task", ["diffusion", "hybrid", "supervised", "finetune"])
def test_between_logged_losses_nothing_waits_for_the_device(tiny, tmp_path, beside, task):
    run = made(tiny, tmp_path, task)
    run.advance()
    with Waits() as waits:
        run.advance()
    assert waits.seen == []
    with Waits() as waits:
        run.advance()
    if task == "finetune":  # Then a batch of labels is waited for, and counted on the CPU.
        assert waits.seen[:2] == ["tolist", "cpu"]
        assert waits.seen.count("cpu") == 1
    else:
        assert waits.seen == ["tolist"]
    assert run.history[-1].name in ("loss", "val_jaccard")


def test_where_training_is_not_beside_every_update_is_looked_at(tiny, tmp_path):
    run = made(tiny, tmp_path, "finetune")
    with Waits() as waits:
        run.advance()
    assert sorted(waits.seen) == ["__bool__", "item", "item"]


def test_an_iteration_of_ledm_waits_once_for_the_loss_that_its_rule_wants(tiny, tmp_path):
    spec = tiny.spec("hybrid", training=tiny.training("hybrid").model_copy(update={"updates": 1}))
    source = tiny.places(tmp_path / "source", "hybrid")
    execute(spec, source)
    run = load("ledm")(
        tiny.spec("ledm", pretrained=spec), tiny.places(tmp_path, "ledm", source.artifacts)
    )
    run.advance()
    with Waits() as waits:
        run.advance()
    assert waits.seen == ["item"]


def finished(run):
    while not run.done:
        run.advance()
    return [point[:3] for point in map(astuple, run.history)], run.network.state_dict()


def test_a_fine_tuning_that_looks_later_has_the_same_bits(tiny, tmp_path, monkeypatch):
    plain = finished(made(tiny, tmp_path / "plain", "finetune"))
    monkeypatch.setattr(Run, "beside", True)
    logged, weights = finished(made(tiny, tmp_path / "later", "finetune"))
    assert logged == plain[0]
    assert all(torch.equal(weights[name], plain[1][name]) for name in weights)


def test_a_fine_tuning_that_diverges_is_told_before_its_weights_are_scored(tiny, tmp_path, beside):
    scored = []
    training = FineTuningConfig(
        train_images=12, batch=4, optimizer=OptimizerConfig(lr=1e30, clip_norm=None), max_epochs=9
    )
    run = FineTuning(tiny.spec("finetune", training=training), tiny.places(tmp_path, "finetune"))
    run._predict = scored.append
    with pytest.raises(Diverged) as caught:
        finished(run)
    assert 0 < caught.value.update < 3
    assert scored == []


def test_an_evaluation_begins_a_batch_before_it_counts_the_one_before(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 2)
    order = []

    class Watched(torch.Tensor):
        def cpu(self):
            order.append(f"count {int(self.flatten()[0])}")
            return self.as_subclass(torch.Tensor)

    def predict(images):
        order.append(f"begin {len([o for o in order if o.startswith('begin')])}")
        number = int(order[-1].split()[1])
        labels = torch.full((len(images), *images.shape[2:]), number % 2)
        return labels.as_subclass(Watched)

    ref = tiny.spec("finetune").dataset
    target = Target(tiny.folder(tiny.target), ref, train_images=8, split_seed=0)
    indices = target.train[:5]
    plain = score_each(target.data, indices, ref, predict)
    assert order == ["begin 0", "count 0", "begin 1", "count 1", "begin 2", "count 0"]
    order.clear()
    # A device by another name than `cpu` is one that computes by itself.
    monkeypatch.setattr(evaluation, "tensors_on", lambda _, *levels: tensors_on("cpu", *levels))
    later = score_each(target.data, indices, ref, predict, "other")
    assert order == ["begin 0", "begin 1", "count 0", "begin 2", "count 1", "count 0"]
    assert [each.compute() for each in later] == [each.compute() for each in plain]
