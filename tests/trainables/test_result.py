"""The result of a run: what is written is what is read, today's and that of an earlier version."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.history import Point
from trainables.result import RESULT_FILE, Artifact, Result

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(min_size=1, max_size=8)
# As version 1 had them before micro-batches, energy and code were recorded.
BEFORE = {
    "version": 1,
    "status": "finished",
    "key": "ab" * 32,
    "metrics": {"test_jaccard": 0.5},
    "updates": 7,
    "seconds": 2.5,
    "history": [["loss", 2, 0.25, 11], ["loss", 1, 0.5, 10], ["test_jaccard", 7, 0.4, 12]],
    "artifacts": {"weights.safetensors": {"sha256": "cd" * 32, "bytes": 3}},
    "environment": {"torch": "2.14.0", "threads": 1},
}
RESULTS = st.builds(
    Result,
    key=st.just("ab" * 32),
    metrics=st.dictionaries(NAMES, NUMBERS, max_size=3),
    updates=st.integers(0, 2**53),
    seconds=NUMBERS,
    attempt=st.integers(1, 99),
    joules=st.none() | NUMBERS,
    gpu_gb=st.none() | NUMBERS,
    resumed_at=st.integers(0, 99),
    micro_batch=st.none() | st.integers(1, 64),
    history=st.lists(
        st.builds(Point, NAMES, st.integers(0, 99), NUMBERS, st.integers(0, 2**53)), max_size=4
    ).map(tuple),
    artifacts=st.dictionaries(
        NAMES, st.builds(Artifact, st.just("cd" * 32), st.integers(0, 2**53)), max_size=2
    ),
    environment=st.dictionaries(NAMES, NAMES | st.integers(0, 99), max_size=2),
    code=st.none() | st.dictionaries(NAMES, NAMES, max_size=2),
)


@given(result=RESULTS)
def test_what_is_written_is_read_to_the_bit(tmp_path_factory, result):
    folder = tmp_path_factory.mktemp("run")
    result.write(folder)
    assert Result.read(folder) == result


def test_results_of_an_earlier_version_are_read(tmp_path):
    (tmp_path / RESULT_FILE).write_text(json.dumps(BEFORE))
    result = Result.read(tmp_path)
    assert (result.attempt, result.micro_batch, result.joules, result.code) == (
        1,
        None,
        None,
        None,
    )
    assert result.artifacts == {"weights.safetensors": Artifact("cd" * 32, 3)}
    # The last by step, whatever the order in the file; final metrics above those that were logged.
    assert result.last_values == {"loss": 0.25, "test_jaccard": 0.5, "seconds": 2.5}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        json.dumps({**BEFORE, "history": [["loss", 1]]}),
        json.dumps({**BEFORE, "artifacts": []}),
        json.dumps({**BEFORE, "artifacts": {"a": {"bytes": 1}}}),
        json.dumps({k: v for k, v in BEFORE.items() if k != "environment"}),
    ],
)
def test_what_is_no_result_is_a_value_error(tmp_path, content):
    (tmp_path / RESULT_FILE).write_text(content)
    with pytest.raises(ValueError, match=r"."):
        Result.read(tmp_path)


def test_numbers_that_json_has_not_are_not_written(tmp_path):
    result = Result("ab" * 32, {"loss": math.nan}, updates=1, seconds=1.0)
    with pytest.raises(ValueError, match="JSON"):
        result.write(tmp_path)
    assert not (tmp_path / RESULT_FILE).exists()
