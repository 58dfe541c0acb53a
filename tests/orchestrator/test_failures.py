"""Which failures are one and the same, and what is done about each kind."""

import pytest

from orchestrator.plan.plan import load_plan
from orchestrator.store.failures import Failure, grouped, site_of
from orchestrator.sweep.retries import micro_batch_of

TRACEBACK = """Traceback (most recent call last):
  File "/home/a/.venv/lib/python3.11/site-packages/ray/tune/trainable.py", line 7, in train
    result = self.step()
  File "/home/a/checkout/trainables/execute.py", line {line}, in advance_for
    self.run.advance()
  File "/home/a/.venv/lib/python3.11/site-packages/torch/nn/modules/conv.py", line 548, in forward
    return F.conv2d(input)
torch.OutOfMemoryError: CUDA out of memory
"""


def failure(line=88, words="OutOfMemoryError: tried to allocate 2.50 GiB", kind="out_of_memory"):
    return Failure.of(kind, words, TRACEBACK.format(line=line))


def test_the_site_is_the_innermost_line_of_ours():
    assert site_of(TRACEBACK.format(line=88)) == "trainables/execute.py:88 in advance_for"
    only_theirs = '  File "/x/site-packages/torch/nn/conv.py", line 5, in forward\n'
    assert site_of(only_theirs) == "torch/nn/conv.py:5 in forward"
    standard = (
        TRACEBACK.format(line=88)
        + '  File "/usr/lib/python3.11/json/decoder.py", line 3, in raw\n'
    )
    assert site_of(standard) == "trainables/execute.py:88 in advance_for"
    assert site_of("the worker died") == ""


def test_numbers_and_names_do_not_tell_failures_apart_but_words_places_and_kinds_do():
    same = [
        failure(),
        failure(line=90),
        failure(words="OutOfMemoryError: tried to allocate 512.00 GiB"),
    ]
    assert len({each.fingerprint for each in same}) == 1
    assert failure(words="OutOfMemoryError: no memory").fingerprint != same[0].fingerprint
    assert failure(kind="error").fingerprint != same[0].fingerprint
    elsewhere = Failure.of("out_of_memory", same[0].message, "")
    assert elsewhere.fingerprint != same[0].fingerprint


def test_groups_come_largest_first_and_in_order():
    failures = {"a": failure(), "b": Failure("worker_lost", "gone"), "c": failure(line=3)}
    groups = grouped(failures, ["c", "b", "a", "never failed"])
    assert [group.keys for group in groups] == [("c", "a"), ("b",)]
    assert groups[0].title.endswith("at trainables/execute.py:3 in advance_for")


def test_only_where_it_changes_nothing_may_a_batch_be_split():
    plan = load_plan("table2")
    sizes = {run.label: micro_batch_of(run.spec) for run in plan.runs}
    assert sizes["pretrain hybrid isic2018"] == 16
    assert {micro_batch_of(r.spec) for r in plan.runs if r.spec.network.family != "adm"} == {None}
    ledm = [micro_batch_of(r.spec) for r in plan.runs if r.spec.task == "ledm"]
    assert set(ledm) == {None}


@pytest.mark.parametrize("ours", ["orchestrator", "trainables", "search_spaces"])
def test_no_path_of_the_machine_is_in_a_site(ours):
    text = f'  File "/home/somebody/secret/{ours}/loop.py", line 1, in f\n'
    assert site_of(text) == f"{ours}/loop.py:1 in f"
