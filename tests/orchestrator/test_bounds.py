"""Every number that a user can give has a bound on both sides, and is refused beyond it in one line."""

import importlib
import math
import pkgutil

import pytest
import typer
from pydantic import BaseModel

import orchestrator
import search_spaces
import trainables
from orchestrator.cli import app
from orchestrator.errors import InputError
from orchestrator.study.checking import Place, check
from orchestrator.study.settings import Settings, set_layer, setting_paths
from orchestrator.study.study import _StudyFile, load_study
from tests.command_line import hdsweep
from trainables.bounds import INT64_MAX

OURS = (orchestrator, search_spaces, trainables)
STUDY = 'title = "x"\nseeds = {}\nmethods = "scratch_adm"\n[targets.ph2]\n'


def models():
    """Return every model of ours, of whatever file."""
    for package in OURS:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)

    def below(model):
        for each in model.__subclasses__():
            yield each
            yield from below(each)

    names = {package.__name__ for package in OURS}
    return [each for each in below(BaseModel) if each.__module__.split(".")[0] in names]


def numbers(schema, path=""):
    """Yield where a JSON schema has a number, and the schema of that number."""
    if isinstance(schema, list):
        schema = dict(enumerate(schema))
    if not isinstance(schema, dict):
        return
    if schema.get("type") in ("integer", "number") and not {"const", "enum"} & schema.keys():
        yield path, schema
    for key, value in schema.items():
        yield from numbers(value, f"{path}/{key}")


def bounded(schema):
    low, high = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
    return bool(low & schema.keys()) and bool(high & schema.keys())


def test_every_number_of_every_model_has_both_bounds():
    found = [
        (f"{model.__name__}{path}", schema)
        for model in models()
        for path, schema in numbers(model.model_json_schema())
    ]
    assert len(found) > 200
    assert [where for where, schema in found if not bounded(schema)] == []


def test_every_list_of_a_study_and_of_the_settings_has_a_longest():
    def lists(schema, path=""):
        if isinstance(schema, list):
            schema = dict(enumerate(schema))
        if isinstance(schema, dict):
            if schema.get("type") == "array":
                yield path, schema
            for key, value in schema.items():
                yield from lists(value, f"{path}/{key}")

    found = [each for model in (Settings, _StudyFile) for each in lists(model.model_json_schema())]
    assert found
    assert [path for path, schema in found if "maxItems" not in schema] == []


def options(command, name="hdsweep"):
    """Yield every option and argument of a command and of those below it."""
    for parameter in command.params:
        yield name, parameter
    for verb, below in getattr(command, "commands", {}).items():
        yield from options(below, f"{name} {verb}")


NUMERIC = [
    pytest.param(name, parameter, id=f"{name} {parameter.opts[0]}")
    for name, parameter in options(typer.main.get_command(app))
    if parameter.type_descriptor.annotation in (int, float)
]


def test_the_numeric_options_are_found():
    assert len(NUMERIC) > 20


@pytest.mark.parametrize(("command", "parameter"), NUMERIC)
def test_every_numeric_option_has_both_bounds_and_takes_finite_numbers_only(command, parameter):
    assert parameter.min is not None
    assert parameter.max is not None
    for wrong in ("nan", "inf", "-inf", "1e400", "9" * 5000, "true", str(parameter.max * 2 + 1)):
        with pytest.raises(typer.BadParameter):
            parameter.process_value(None, wrong)


def whole_numbers():
    leaves = {}
    for path in setting_paths(Settings):
        model = Settings()
        for part in path.split("."):
            model = getattr(model, part)
        if isinstance(model, int | float) and not isinstance(model, bool):
            leaves[path] = model
    return leaves


@pytest.mark.parametrize("path", whole_numbers())
@pytest.mark.parametrize("wrong", ["1e400", "nan", "true", "9" * 5000, f"0x{'f' * 5000}", "-1"])
def test_no_setting_takes_a_number_that_is_none(path, wrong):
    with pytest.raises(InputError) as caught:
        set_layer([f"{path}={wrong}"])
    first, *_ = str(caught.value).splitlines()
    assert path.rsplit(".", maxsplit=1)[-1] in first
    assert f"--set {path}=" in first


def test_a_seed_beyond_the_columns_of_the_table_is_refused_with_the_bound(tmp_path):
    study = tmp_path / "s.toml"
    study.write_text(STUDY.format([INT64_MAX + 1]))
    _, said = hdsweep("plan", study, exit_code=2)
    assert said.startswith(
        f"error: `seeds` should be less than or equal to {INT64_MAX}, got {INT64_MAX + 1}, in "
    )
    assert str(study) in said


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ("[0, 1, 0]", "seed `0` is listed twice"),
        ("[true]", "should be a valid integer"),
        ("[1.0]", "should be a valid integer"),
        ("[nan]", "should be a valid integer"),
        ("[-1]", "greater than or equal to 0"),
        (f"[{'9' * 5000}]", "is not TOML: Exceeds the limit"),
        (f"[0x{'f' * 5000}]", "`seeds` has too many digits"),
        (str(list(range(10_001))), "at most 10000 items"),
        ("[" * 5000, "nested more deeply"),
    ],
)
def test_seeds_that_are_none_are_refused_in_one_line(tmp_path, seeds, words):
    study = tmp_path / "s.toml"
    study.write_text(STUDY.format(seeds))
    with pytest.raises(InputError) as caught:
        load_study(str(study))
    assert words in str(caught.value)
    assert str(study) in str(caught.value)


def test_a_table_nested_without_end_is_refused(tmp_path):
    study = tmp_path / "s.toml"
    study.write_text(STUDY.format("[0]") + "a" + ".a" * 20_000 + " = 1\n")
    with pytest.raises(InputError, match="nested more deeply"):
        load_study(str(study))


@pytest.mark.parametrize("flag", ["--methods", "--targets", "--seeds"])
def test_a_filter_that_names_something_twice_is_refused(flag):
    value = {"--methods": "scratch_adm", "--targets": "ph2", "--seeds": "1"}[flag]
    _, said = hdsweep("plan", "table2", flag, f"{value},{value}", exit_code=2)
    assert f"`{value}` is listed twice at {flag} {value},{value}" in said


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "table2", "--retries", "-3"], "--retries -3: must be a number from 0 to 1000"),
        (["tune", "lambda", "--seed", "1.5"], "--seed 1.5: must be a whole number from 0 to "),
        (
            ["data", "list", "--image-size", "1000000"],
            "--image-size 1000000: must be a number from",
        ),
        (
            ["run", "table2", "--max-cost", "nan", "--price", "1"],
            "--max-cost nan: must be a number",
        ),
    ],
)
def test_a_number_out_of_its_bounds_is_one_line_with_the_option_the_value_and_the_bound(
    arguments, line
):
    out, said = hdsweep(*arguments, exit_code=2)
    assert out == ""
    assert said.startswith(f"error: {line}")
    assert len(said.splitlines()) == 1


def test_the_bounds_take_what_they_say():
    at_the_end = [f"pretraining.optimizer.lr={1e37!r}", f"fine_tuning.split_seed={INT64_MAX}"]
    assert set_layer(at_the_end)
    assert math.isfinite(check(Settings, {}, Place("x")).ledm.lr)
