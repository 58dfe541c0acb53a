"""What a study file may say, and the one line that answers everything else."""

import pytest

from orchestrator.errors import InputError, UnknownNameError
from orchestrator.study.study import load_study, study_names

STUDY = """
title = "Skin"
seeds = [0, 1]
methods = ["scratch_adm", "hybrid_ft"]

[sources.isic2018]
targets = ["ph2", "dermis"]

[sources.isic2018.pretraining]
updates = 20_000
"""


@pytest.fixture
def study(tmp_path):
    """Return a function that loads a study from its text."""

    def load(text):
        path = tmp_path / "tiny.toml"
        path.write_text(text)
        return load_study(str(path))

    return load


def message(study, text):
    with pytest.raises(InputError) as caught:
        study(text)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_table2_is_the_table_of_the_paper():
    study = load_study("table2")
    assert study.seeds == (0, 1, 2)
    assert len(study.methods) == 11
    assert study.source_of == {
        "ph2": "isic2018",
        "dermis": "isic2018",
        "nih": "shenzhen",
        "montgomery": "shenzhen",
        "ffhq34": "celebamask_hq",
    }


def test_every_study_we_ship_loads():
    assert "table2" in study_names()
    assert all(load_study(name).title for name in study_names())


def test_groups_and_names_mix_and_count_once(study):
    loaded = study(
        STUDY.replace('["scratch_adm", "hybrid_ft"]', '["hybrid_ft", "hybrid", "scratch_adm"]')
    )
    assert loaded.methods == ("hybrid_ft", "hybrid_ledm", "scratch_adm")


def test_methods_may_be_one_group(study):
    loaded = study(STUDY.replace('["scratch_adm", "hybrid_ft"]', '"baselines"'))
    assert len(loaded.methods) == 9


def test_an_unknown_study_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean `table2`"):
        load_study("tabel2")


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"no study file at nowhere/mine\.toml"):
        load_study("nowhere/mine.toml")


def test_a_syntax_error_keeps_its_line(study):
    assert "line 4" in message(study, STUDY.replace("[0, 1]", "[0, 1"))


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "picture.toml"
    path.write_bytes(b"\x89PNG\xff")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load_study(str(path))


def test_a_byte_order_mark_is_no_part_of_a_study(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace("\n", "\r\n"), encoding="utf-8-sig")
    assert load_study(str(path)).name == "study"
    path.write_text(STUDY, encoding="utf-16")
    with pytest.raises(InputError, match="is UTF-16 text, must be UTF-8: save it as UTF-8"):
        load_study(str(path))


def test_a_misspelt_key_is_an_error_not_a_default(study):
    text = message(study, STUDY.replace("seeds", "seed"))
    assert "unknown key `seed`" in text
    assert "did you mean `seeds`?" in text


def test_a_misspelt_key_in_a_table_is_answered_with_its_place(study):
    text = message(study, STUDY.replace("updates", "update"))
    assert "unknown key `update` at" in text
    assert "tiny.toml: [sources.isic2018.pretraining]" in text
    assert "did you mean `updates`?" in text


def test_a_misspelt_table_is_answered_with_the_nearest(study):
    text = message(study, STUDY + "\n[finetuning]\nbatch = 4\n")
    assert "unknown key `finetuning`" in text
    assert "did you mean `fine_tuning`?" in text


def test_a_wrong_value_is_told_with_what_was_allowed(study):
    text = message(study, STUDY.replace("20_000", "-5"))
    assert "`updates` should be greater than 0, got -5" in text
    assert "[sources.isic2018.pretraining]" in text


@pytest.mark.parametrize("value", ['"20000"', "true", "1.5"])
def test_numbers_are_not_guessed_from_other_types(study, value):
    assert "`updates` should be a valid integer" in message(study, STUDY.replace("20_000", value))


def test_what_the_planner_fills_in_cannot_be_written(study):
    text = message(study, STUDY + '\n[networks.deeplab]\nbackbone_sha256 = "00"\n')
    assert "unknown key `backbone_sha256`" in text


def test_a_missing_key_is_named(study):
    assert "`title` is missing" in message(study, STUDY.replace('title = "Skin"', ""))


def test_an_unknown_method_is_answered_with_the_nearest(study):
    text = message(study, STUDY.replace("hybrid_ft", "hybridft"))
    assert "unknown method `hybridft`" in text
    assert "did you mean `hybrid_ft`?" in text


def test_an_unknown_source_is_answered_with_the_nearest(study):
    text = message(study, STUDY.replace("isic2018", "isic2017"))
    assert "unknown dataset `isic2017`" in text
    assert "did you mean `isic2018`?" in text


def test_an_unknown_target_is_answered_with_the_nearest(study):
    text = message(study, STUDY.replace('"ph2"', '"ph3"'))
    assert "unknown dataset `ph3`" in text
    assert "[sources.isic2018] targets" in text
    assert "did you mean `ph2`?" in text


def test_a_source_cannot_be_a_target(study):
    text = message(study, STUDY.replace('"ph2"', '"shenzhen"'))
    assert "dataset `shenzhen` is a source, not a target" in text


def test_a_target_cannot_be_a_source(study):
    text = message(study, STUDY.replace("isic2018", "nih"))
    assert "dataset `nih` is a target, not a source" in text


def test_a_target_under_two_sources_is_refused(study):
    text = message(study, STUDY + '\n[sources.shenzhen]\ntargets = ["ph2"]\n')
    assert "target `ph2` is listed under two sources, `isic2018` and `shenzhen`" in text


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ('"dermis"', '"ph2"', "target `ph2` is listed twice"),
        ("[0, 1]", "[1, 1]", "seed `1` is listed twice"),
        ('"scratch_adm"', '"hybrid_ft"', "method `hybrid_ft` is listed twice"),
    ],
)
def test_duplicates_are_refused(study, before, after, what):
    assert what in message(study, STUDY.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ("[0, 1]", "[]", "has no seeds"),
        ('["scratch_adm", "hybrid_ft"]', "[]", "has no methods"),
        ('["ph2", "dermis"]', "[]", "source `isic2018` lists no targets"),
    ],
)
def test_what_is_empty_is_refused(study, before, after, what):
    assert what in message(study, STUDY.replace(before, after))


def test_a_pretraining_that_no_source_provides_is_refused(study):
    text = message(study, STUDY + "\n[targets.nih]\n")
    assert "`hybrid_ft` on `nih` needs a hybrid pretraining, but no source lists `nih`" in text


def test_a_target_without_source_serves_methods_without_pretraining(study):
    text = STUDY.replace('["scratch_adm", "hybrid_ft"]', '["scratch_adm"]') + "\n[targets.nih]\n"
    assert study(text).source_of["nih"] is None


def test_an_override_of_a_method_outside_the_study_is_refused(study):
    text = message(study, STUDY + "\n[overrides.diffusion_ft.fine_tuning]\nbatch = 4\n")
    assert "unknown method `diffusion_ft`" in text
    assert "[overrides.diffusion_ft]" in text


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ("scratch_adm.pretraining]\nupdates = 5", "`scratch_adm` reads no `pretraining`"),
        ("hybrid_ft.ledm]\nlr = 0.1", "`hybrid_ft` reads no `ledm`"),
        ("hybrid_ft.networks.deeplab]\nbase_width = 8", "network of `hybrid_ft` is adm, not dee"),
    ],
)
def test_an_override_that_would_do_nothing_is_refused(study, table, what):
    assert what in message(study, f"{STUDY}\n[overrides.{table}\n")


def test_an_unknown_default_scale_is_refused(study):
    text = message(study, 'scale = "papre"\n' + STUDY)
    assert "unknown scale `papre`" in text
    assert "did you mean `paper`?" in text
