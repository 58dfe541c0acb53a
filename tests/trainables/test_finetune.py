"""Early stopping, best weights and what a fine-tuning leaves behind."""

import json

import pyarrow as pa
import pytest
from safetensors.torch import load_file

from trainables.adaptation.finetune import FineTuning
from trainables.adaptation.target import worst_and_middle
from trainables.execute import execute


class Scripted(FineTuning):
    """A fine-tuning whose validation metric is prescribed, to see what is done with it."""

    metrics: tuple[float, ...] = ()

    def __init__(self, spec, places):
        super().__init__(spec, places)
        self.target.validation_metric = lambda _: self.metrics[self.epoch - 1]


def ran(tiny, tmp_path, metrics, patience):
    training = tiny.training("finetune").model_copy(
        update={"patience": patience, "max_epochs": len(metrics)}
    )
    run = Scripted(tiny.spec("finetune", training=training), tiny.places(tmp_path, "finetune"))
    run.metrics = metrics
    at_epoch = {}
    while not run.done:
        run.advance()
        weights = {name: value.clone() for name, value in run.network.state_dict().items()}
        at_epoch.setdefault(run.epoch, weights)
    return run, at_epoch


@pytest.mark.parametrize(
    ("metrics", "patience", "epochs", "best"),
    [
        ((50, 60, 55, 55, 55, 99), 3, 5, 2),  # three epochs without improvement after the second
        ((50, 60, 60, 60, 60, 99), 3, 5, 2),  # an equal value is no improvement
        ((50, 40, 60, 40, 40, 70), 3, 6, 6),  # an improvement in time starts the count again
        ((50, 60, 70), 3, 3, 3),  # the cap
    ],
)
def test_stopping(tiny, tmp_path, metrics, patience, epochs, best):
    run, at_epoch = ran(tiny, tmp_path, metrics, patience)
    final = run.finish()
    assert (final["epochs"], final["best_epoch"], final["best_val"]) == (
        epochs,
        best,
        max(metrics[:epochs]),
    )
    kept = load_file(tmp_path / "artifacts" / "weights.safetensors")
    for name, tensor in at_epoch[best].items():
        assert kept[name].equal(tensor), "the kept weights must be those of the best epoch"


def test_two_updates_per_epoch_of_twenty_images(tiny, tmp_path):
    # The paper's 20 images in batches of 12: 12 + 8. Here 8 images in batches of 5: 5 + 3.
    training = tiny.training("finetune").model_copy(update={"batch": 5, "max_epochs": 2})
    result = execute(tiny.spec("finetune", training=training), tiny.places(tmp_path, "finetune"))
    assert result.updates == 4


def test_what_is_left_behind(tiny, tmp_path):
    places = tiny.places(tmp_path, "finetune")
    result = execute(tiny.spec("finetune"), places)
    files = {path.name for path in places.artifacts.iterdir()}
    assert files == {
        "result.json",
        "spec.json",
        "split.json",
        "predictions.png",
        "test_images.arrow",
        "weights.safetensors",
    }
    assert 0 <= result.metrics["test_jaccard"] <= 100
    split = json.loads((places.artifacts / "split.json").read_text())
    assert {name: len(ids) for name, ids in split.items()} == {"train": 8, "val": 4, "test": 4}
    assert len({i for ids in split.values() for i in ids}) == 16


def test_the_counts_of_each_test_image_give_the_score_again(tiny, tmp_path):
    places = tiny.places(tmp_path, "finetune")
    result = execute(tiny.spec("finetune"), places)
    images = pa.ipc.open_file(places.artifacts / "test_images.arrow").read_all().to_pylist()
    split = json.loads((places.artifacts / "split.json").read_text())
    assert [row["id"] for row in images] == split["test"]
    ratios = [100 * row["both"][0] / row["either"][0] for row in images]
    assert [row["score"] for row in images] == pytest.approx(ratios)
    assert result.metrics["test_jaccard"] == pytest.approx(sum(ratios) / len(ratios))


def test_the_images_to_look_at_are_the_worst_and_ordinary_ones():
    scores = [float(n) for n in range(20, 0, -1)]  # The last is the worst.
    assert worst_and_middle(scores) == [19, 18, 17, 16, 11, 10, 9, 8]
    assert worst_and_middle([3.0, 1.0, 2.0, 5.0, 4.0]) == [1, 2, 0, 4, 3]


def test_all_methods_and_seeds_share_the_split(tiny, tmp_path):
    def split(name, **changes):
        places = tiny.places(tmp_path / name, "finetune")
        execute(tiny.spec("finetune", **changes), places)
        return (places.artifacts / "split.json").read_text()

    assert split("one") == split("two", seed=1)


def test_weights_are_left_out_on_demand(tiny, tmp_path):
    from dataclasses import replace

    places = replace(tiny.places(tmp_path, "finetune"), keep_weights=False)
    execute(tiny.spec("finetune"), places)
    assert not (places.artifacts / "weights.safetensors").exists()
    assert not list(places.artifacts.glob("*.pt"))
