"""Layers of settings: which one wins, how `--set` is read, and what scales contain."""

import pytest

from orchestrator.errors import InputError, UnknownNameError
from orchestrator.study.checking import Place
from orchestrator.study.scale import load_scale, scale_names
from orchestrator.study.settings import Settings, layer, resolve, set_layer, setting_paths
from trainables.config import PretrainingConfig


def test_no_layer_gives_the_settings_of_the_paper():
    assert resolve([]) == Settings()


def test_one_field_of_a_table_leaves_the_others_as_they_were():
    # The optimizer of the two stages has different defaults; a partial table must keep both.
    settings = resolve([set_layer(["pretraining.optimizer.lr=3e-4"])])
    expected = PretrainingConfig().optimizer.model_copy(update={"lr": 3e-4})
    assert settings.pretraining.optimizer == expected
    assert settings.fine_tuning.optimizer.lr == 2e-4


def test_the_last_layer_wins():
    layers = [layer(Place("x"), {"pretraining": {"updates": n}}) for n in (5, 7)]
    assert resolve(layers).pretraining.updates == 7


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("compute.precision=bf16", "bf16"),
        ('compute.precision="bf16"', "bf16"),
        ("compute.threads = 2", 2),
        ("compute.compile=true", True),
    ],
)
def test_set_reads_toml_and_takes_bare_words_as_text(flag, value):
    field = flag.split("=")[0].strip().removeprefix("compute.")
    assert getattr(resolve([set_layer([flag])]).compute, field) == value


def test_settings_that_fit_only_together_may_come_one_by_one():
    flags = ["compute.bf16_evaluation=true", "compute.precision=bf16"]
    assert resolve([set_layer(flags[:1]), set_layer(flags[1:])]).compute.bf16_evaluation


def test_settings_that_do_not_fit_together_are_refused():
    with pytest.raises(
        InputError, match=r"bf16_evaluation needs compute\.precision bf16, got tf32"
    ):
        resolve([set_layer(["compute.bf16_evaluation=true"])])


def test_set_takes_lists_and_none():
    settings = resolve([set_layer(["ledm.steps=[1, 2]", "pretraining.optimizer.clip_norm=none"])])
    assert settings.ledm.steps == (1, 2)
    assert settings.pretraining.optimizer.clip_norm is None


def test_a_later_set_overrules_an_earlier_one():
    assert resolve([set_layer(["ledm.lr=1.0", "ledm.lr=2.0"])]).ledm.lr == 2.0


def test_set_with_an_unknown_path_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        set_layer(["fine_tuning.optimiser.lr=1e-4"])
    text = str(caught.value)
    assert "unknown setting `fine_tuning.optimiser.lr` at --set fine_tuning.optimiser.lr=1" in text
    assert "did you mean `fine_tuning.optimizer.lr`?" in text


def test_set_with_a_wrong_value_names_the_flag():
    with pytest.raises(InputError) as caught:
        set_layer(["pretraining.updates=0"])
    assert "`updates` should be greater than 0, got 0, in --set pretraining.updates=0" in str(
        caught.value
    )


@pytest.mark.parametrize("flag", ["pretraining.updates", "=3", ""])
def test_set_without_path_or_value_is_refused(flag):
    with pytest.raises(InputError, match=r"--set takes path\.to\.field=value"):
        set_layer([flag])


def test_no_path_leads_to_what_the_planner_fills_in():
    paths = setting_paths(Settings)
    assert "pretraining.mask_weight" in paths
    assert not [path for path in paths if path.endswith(("family", "kind", "sha256"))]


def test_the_scales_we_ship_load():
    assert scale_names() == ("demo", "paper", "smoke")
    assert all(load_scale(name).title for name in scale_names())


def test_the_paper_scale_changes_only_how_a_batch_is_split():
    assert load_scale("paper").layer.leaves == {"pretraining.micro_batch": 16}


def test_a_scale_of_ones_own_is_a_path(tmp_path):
    (tmp_path / "mine.toml").write_text("[data]\nimage_size = 64\n")
    scale = load_scale(str(tmp_path / "mine.toml"))
    assert (scale.name, scale.layer.leaves) == ("mine", {"data.image_size": 64})


def test_an_unknown_scale_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        load_scale("dem")
    assert "unknown scale `dem` at --scale" in str(caught.value)
    assert "did you mean `demo`?" in str(caught.value)


def test_a_misspelt_key_of_a_scale_is_told_with_its_place(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[networks.adm]\nchanels = 64\n")
    with pytest.raises(UnknownNameError) as caught:
        load_scale(str(path))
    assert "unknown key `chanels`" in str(caught.value)
    assert "mine.toml: [networks.adm]" in str(caught.value)
    assert "did you mean `channels`?" in str(caught.value)


def test_a_value_that_is_too_long_to_read_is_cut():
    with pytest.raises(InputError) as caught:
        set_layer(["compute.precision=" + "x" * 500])
    assert len(str(caught.value)) < 800
