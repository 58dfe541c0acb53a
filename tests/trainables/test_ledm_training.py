"""What one LEDM run trains on, in which order, and when it stops."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainables.adaptation.features import Features
from trainables.adaptation.ledm import Ledm
from trainables.execute import execute
from trainables.networks import build

SIDE = 16
TRAIN_IMAGES = 8


@pytest.fixture(scope="module")
def pretrained(tiny, tmp_path_factory):
    """Return a folder with weights of a hybrid network: random, and none of them zero."""
    folder = tmp_path_factory.mktemp("pretrained")
    save_file(random_network(tiny).state_dict(), folder / "weights.safetensors")
    return folder


@pytest.fixture
def ledm(tiny, pretrained, tmp_path):
    """Return a function that builds a run; its settings are the tiny ones with `changes`."""

    def made(seed=0, **changes):
        training = tiny.training("ledm").model_copy(update={"max_iterations": None, **changes})
        spec = tiny.spec("ledm", seed=seed, training=training, pretrained=tiny.spec("hybrid"))
        return Observed(spec, tiny.places(tmp_path, "ledm", pretrained))

    return made


class Observed(Ledm):
    """Remembers the pixels and the loss of every mini-batch."""

    def __init__(self, spec, places):
        super().__init__(spec, places)
        self.losses, self.batches, gather = [], [], self._gather

        def remembered(image, row, column):
            self.batches.append(torch.stack((image, row, column), 1))
            return gather(image, row, column)

        self._gather = remembered

    def checked(self, loss, gradient_norm=0.0):
        self.losses.append(loss)
        return super().checked(loss, gradient_norm)

    def to_the_end(self):
        while not self.done:
            self.advance()
        return self


def random_network(tiny):
    torch.manual_seed(0)
    network = build(tiny.adm, 5).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return network


def test_features_are_ordered_by_step_and_within_a_step_by_block(tiny):
    network, noise = random_network(tiny), torch.randn(1, 3, SIDE, SIDE)
    images = torch.rand(2, 3, SIDE, SIDE) * 2 - 1
    maps = Features(network, noise, steps=(250, 50), blocks=(2, 0)).maps(images)
    expected = []
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    for step in (250, 50):
        kept = math.prod((1 - betas[: step + 1]).tolist())
        noised = math.sqrt(kept) * images + math.sqrt(1 - kept) * noise
        for block in (2, 0):
            seen = []
            handle = network.decoder_block(block).register_forward_hook(
                lambda _module, _inputs, output, seen=seen: seen.append(output)
            )
            with torch.no_grad():
                network(noised, torch.full((2,), step))
            handle.remove()
            expected += seen
    assert len(maps) == len(expected) == 4
    for got, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_nothing_after_the_last_block_that_is_read_is_computed(tiny):
    network, noise = random_network(tiny), torch.randn(1, 3, SIDE, SIDE)
    computed = []
    for index in range(network.num_decoder_blocks):
        network.decoder_block(index).register_forward_hook(
            lambda *_, index=index: computed.append(index)
        )
    Features(network, noise, steps=(50,), blocks=(0, 3)).maps(torch.zeros(1, 3, SIDE, SIDE))
    assert computed == [0, 1, 2, 3]


def test_an_epoch_reads_every_pixel_at_most_once_and_only_labelled_ones(ledm):
    run = ledm(batch_pixels=100, max_epochs=1).to_the_end()
    _, labels = run.target.batch(run.target.train)
    labelled = int((labels != 255).sum())
    pixels = torch.cat(run.batches)
    assert len(pixels) == labelled // 100 * 100  # the last, incomplete mini-batch is dropped
    assert len(pixels.unique(dim=0)) == len(pixels)


def test_epochs_and_seeds_shuffle_differently(ledm):
    first, second = ledm(batch_pixels=512, max_epochs=2).to_the_end().batches
    other = ledm(seed=1, batch_pixels=512, max_epochs=2)
    other.advance()
    assert not torch.equal(first, second)
    assert not torch.equal(first, other.batches[0])


def test_a_run_stops_where_the_official_rule_does(ledm):
    patience, first_epoch = 3, 1
    run = ledm(
        batch_pixels=256, first_stopping_epoch=first_epoch, patience_iterations=patience
    ).to_the_end()
    per_epoch = TRAIN_IMAGES * SIDE**2 // 256
    assert len(run.losses) > per_epoch * first_epoch + patience + 1
    watched = run.losses[per_epoch * first_epoch :]
    lowest_at = watched.index(min(watched))
    assert lowest_at + patience + 2 == len(watched)  # the minimum, then patience + 1 above it
    for end in range(1, len(watched)):  # and at no earlier moment
        seen = watched[:end]
        assert end - 1 - seen.index(min(seen)) <= patience


def test_without_the_rule_the_epochs_are_the_limit(ledm):
    run = ledm(batch_pixels=512, first_stopping_epoch=100, max_epochs=2).to_the_end()
    assert run.update == 2 * (TRAIN_IMAGES * SIDE**2 // 512)
    assert run.fraction == 1.0


def test_fewer_pixels_than_a_mini_batch_make_one_of_all(ledm):
    run = ledm(batch_pixels=100_000, max_epochs=3).to_the_end()
    assert run.update == 3
    assert {len(batch) for batch in run.batches} == {TRAIN_IMAGES * SIDE**2}


def test_training_leaves_the_pretrained_network_as_it_was(ledm, pretrained):
    run = ledm(max_iterations=5).to_the_end()
    stored = load_file(pretrained / "weights.safetensors")
    network = run._features._network
    assert not network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, stored[name]), name
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_the_history_holds_every_loss_once(ledm):
    run = ledm(max_iterations=70).to_the_end()
    steps = [(point.name, point.step) for point in run.history]
    assert steps == [("loss", 50), ("loss", 70)]
    means = [sum(run.losses[:50]) / 50, sum(run.losses[50:]) / 20]
    assert [point.value for point in run.history] == pytest.approx(means, rel=1e-9)


def test_another_pretraining_task_has_its_own_outputs(tiny, tmp_path):
    # Supervised on two classes: two output channels, where hybrid has five.
    save_file(build(tiny.adm, 2).state_dict(), tmp_path / "weights.safetensors")
    spec = tiny.spec("ledm", pretrained=tiny.spec("supervised"))
    result = execute(spec, tiny.places(tmp_path, "ledm", tmp_path))
    assert {"test_jaccard", "iterations", "epochs"} <= result.metrics.keys()
    assert result.metrics["iterations"] == 30


def test_one_pixel_is_refused_before_the_features_are_made(ledm):
    with pytest.raises(ValueError, match="needs two pixels per mini-batch: .* batch_pixels is 1"):
        ledm(batch_pixels=1)
