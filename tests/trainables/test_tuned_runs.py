"""What tuning trains: fine-tunings without a test part, pretrainings that go on from shorter ones."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from trainables.adaptation.finetune import FineTuning, ValidatedFineTuning
from trainables.execute import execute
from trainables.networks.start import WEIGHTS_FILE


def validated(tiny, folder, **changes):
    spec = tiny.spec("finetune", **changes).model_copy(update={"task": "finetune_validation"})
    return spec, tiny.places(folder, "finetune")


def test_test_images_cannot_be_read_where_hyperparameters_are_tuned(tiny, tmp_path):
    spec, places = validated(tiny, tmp_path)
    table = FineTuning(tiny.spec("finetune"), places)
    tuning = ValidatedFineTuning(spec, places)
    test = table.target._test
    assert len(test) > 0
    assert len(tuning.target._test) == 0
    assert list(tuning.target.val) == list(table.target.val)
    for index in test.tolist():
        with pytest.raises(IndexError, match="not to be read here"):
            tuning.target.data.images([index])
        with pytest.raises(IndexError, match="not to be read here"):
            tuning.target.data.labels([index])
    tuning.target.batch(tuning.target.val)


def test_it_trains_as_the_table_does_and_is_scored_on_the_validation_part(tiny, tmp_path):
    spec, places = validated(tiny, tmp_path / "tuned")
    tuned = execute(spec, places)
    table = execute(tiny.spec("finetune"), tiny.places(tmp_path / "table", "finetune"))
    assert tuned.metrics["val_jaccard"] == table.metrics["best_val"]
    assert tuned.metrics["epochs"] == table.metrics["epochs"]
    assert not [name for name in tuned.metrics if name.startswith("test_")]
    split = json.loads((places.artifacts / "split.json").read_text())
    assert split["test"] == []
    assert not (places.artifacts / "predictions.png").exists()


def shorter(spec, updates):
    training = spec.training.model_copy(update={"updates": updates})
    return spec.model_copy(update={"training": training})


@pytest.mark.parametrize("task", ["diffusion", "hybrid"])
def test_a_run_that_goes_on_from_a_shorter_one_is_the_run_that_never_stopped(tiny, tmp_path, task):
    spec = tiny.spec(task)
    straight = tiny.places(tmp_path / "straight", task)
    expected = execute(spec, straight)
    state = tmp_path / "state"
    first = replace(tiny.places(tmp_path / "first", task), leave_state=state)
    execute(shorter(spec, 2), first)
    second = replace(tiny.places(tmp_path / "second", task), continued=state)
    found = execute(spec, second)
    assert found.updates == expected.updates
    assert found.metrics == expected.metrics
    ours, theirs = (load_file(p.artifacts / WEIGHTS_FILE) for p in (second, straight))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    record = json.loads((second.artifacts / "result.json").read_text())
    assert record["resumed_at"] == 2


def test_the_state_of_another_run_is_refused(tiny, tmp_path):
    state = tmp_path / "state"
    other = tiny.spec("hybrid", seed=1)
    execute(
        shorter(other, 2), replace(tiny.places(tmp_path / "first", "hybrid"), leave_state=state)
    )
    places = replace(tiny.places(tmp_path / "second", "hybrid"), continued=state)
    with pytest.raises(ValueError, match="which is not"):
        execute(tiny.spec("hybrid"), places)


def test_a_state_that_is_gone_costs_time_and_changes_nothing(tiny, tmp_path):
    spec = tiny.spec("hybrid")
    expected = execute(spec, tiny.places(tmp_path / "straight", "hybrid"))
    places = replace(tiny.places(tmp_path / "other", "hybrid"), continued=tmp_path / "nowhere")
    assert execute(spec, places).metrics == expected.metrics
