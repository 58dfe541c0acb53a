"""The general check of the DAG: nothing missing, nothing twice, no circle."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.plan.plan import in_order, load_plan

RUN = load_plan("table2", methods="scratch_adm", targets="ph2", seeds="0").runs[0]


def run(name, needs=None):
    return replace(RUN, key=name, label=name, needs=needs)


def test_a_circle_is_refused_by_name():
    with pytest.raises(InputError, match="need each other in a circle: `a`, `b`"):
        in_order([run("a", "b"), run("b", "a"), run("c")])


def test_a_run_that_needs_itself_is_a_circle():
    with pytest.raises(InputError, match="in a circle: `a`"):
        in_order([run("a", "a")])


def test_a_need_that_nothing_provides_is_refused():
    with pytest.raises(InputError, match="`a` needs run gone, which nothing provides"):
        in_order([run("a", "gone")])


def test_the_same_run_twice_is_refused():
    with pytest.raises(InputError, match="`other` and `a` are the same run|`a` and `other`"):
        in_order([run("a"), replace(run("a"), label="other")])


@given(st.permutations(range(8)), st.lists(st.integers(0, 7), min_size=8, max_size=8))
def test_every_run_stands_after_the_one_it_needs(order, parents):
    # Run i needs a run of a smaller number, so there is no circle, in whichever order they come.
    needs = {i: str(parents[i] % i) if i and parents[i] else None for i in range(8)}
    ordered = in_order([run(str(i), needs[i]) for i in order])
    position = {each.key: i for i, each in enumerate(ordered)}
    assert sorted(position) == [str(i) for i in range(8)]
    assert all(each.needs is None or position[each.needs] < position[each.key] for each in ordered)
