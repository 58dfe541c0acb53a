"""The order of a sweep: dependencies first, of what is ready the longest path, failures contained."""

from dataclasses import replace

import pytest

from orchestrator.plan.cost.forecast import H200, forecast
from orchestrator.plan.order import Frontier, seeds_first
from orchestrator.plan.plan import load_plan


@pytest.fixture(scope="module")
def plan():
    return load_plan("table2")


@pytest.fixture(scope="module")
def remaining(plan):
    return forecast(plan, device=H200).remaining


def drain(frontier, *, fail=()):
    """Run everything one after the other; return the order, and what was blocked."""
    order, blocked = [], []
    while not frontier.exhausted:
        run = frontier.take()
        assert run is not None, "something waits and nothing runs"
        order.append(run)
        if run.label in fail:
            blocked += frontier.give_up(run.key)
        else:
            frontier.finish(run.key)
    return order, blocked


def test_every_run_once_and_after_its_pretraining(plan, remaining):
    order, blocked = drain(Frontier(plan.runs, (), remaining))
    assert blocked == []
    position = {run.key: i for i, run in enumerate(order)}
    assert len(position) == len(order) == 180
    assert all(position[run.needs] < position[run.key] for run in order if run.needs)


def test_the_three_longest_pretrainings_start_first(plan, remaining):
    # method.md 0: the three CelebA ADM pretrainings are the critical path.
    frontier = Frontier(plan.runs, (), remaining)
    first = {frontier.take().label for _ in range(3)}
    assert first == {f"pretrain {t} celebamask_hq" for t in ("diffusion", "hybrid", "supervised")}


def test_with_all_workers_on_pretrainings_independent_runs_are_next(plan, remaining):
    frontier = Frontier(plan.runs, (), remaining)
    taken = [frontier.take() for _ in range(16)]
    assert [run.pretraining for run in taken] == [True] * 15 + [False]
    assert taken[-1].needs is None


def test_nothing_is_ready_while_a_pretraining_runs(plan, remaining):
    runs = [run for run in plan.runs if run.source == "shenzhen" and run.spec.task == "hybrid"]
    runs += [run for run in plan.runs if run.needs == runs[0].key]
    frontier = Frontier(runs, (), remaining)
    pretraining = frontier.take()
    assert frontier.take() is None
    assert not frontier.exhausted
    frontier.finish(pretraining.key)
    assert frontier.take().needs == pretraining.key


def test_a_pretraining_that_fails_blocks_its_own_twelve_and_nothing_else(plan, remaining):
    frontier = Frontier(plan.runs, (), remaining)
    order, blocked = drain(frontier, fail={"pretrain hybrid isic2018"})
    # Two rows x two targets x three seeds.
    assert len(blocked) == 12
    assert {run.source for run in blocked} == {"isic2018"}
    assert len(order) == 180 - 12


def test_a_finished_pretraining_is_not_needed_again(plan, remaining):
    pretraining = plan.runs[0]
    after = [run for run in plan.runs if run.needs == pretraining.key]
    frontier = Frontier(after, [pretraining.key], remaining)
    assert frontier.take() in after


def test_a_run_put_back_is_the_next(plan, remaining):
    frontier = Frontier(plan.runs, (), remaining)
    first = frontier.take()
    frontier.take()
    frontier.put_back(first.key)
    assert frontier.take() is first


def test_of_equal_rank_the_longest_and_no_worker_waits_for_a_rank(plan, remaining):
    rank = seeds_first(plan.runs)
    order, _ = drain(Frontier(plan.runs, (), remaining, rank=rank))
    fine_tunings = [run for run in order if not run.pretraining]
    # Everything is ready in turn, so every cell has its first seed before any has its second.
    assert [run.seed for run in fine_tunings] == [0] * 55 + [1] * 55 + [2] * 55
    # But while the pretrainings run, a second seed that is ready is better than an idle worker.
    frontier = Frontier(plan.runs, (), remaining, rank=rank)
    taken = [frontier.take() for _ in range(15 + 45)]
    assert [run.seed for run in taken[15:]] == [0] * 15 + [1] * 15 + [2] * 15


def test_dropping_a_method_leaves_what_others_need(plan, remaining):
    frontier = Frontier(plan.runs, (), remaining)
    dropped = frontier.drop_methods({"hybrid_ft"})
    assert {run.methods for run in dropped} == {("hybrid_ft",)}
    assert len(dropped) == 15
    # Its pretrainings go on for LEDM; with both gone they are of no use either.
    assert sum(run.pretraining for run in frontier.drop_methods({"hybrid_ft", "hybrid_ledm"})) == 3


def test_what_hangs_on_a_dropped_run_by_several_steps_is_dropped_with_it(plan):
    # a <- b <- c <- d, and e by itself.
    chain = [
        replace(plan.runs[0], key=key, needs=needs)
        for key, needs in ("a-", "ba", "cb", "dc", "e-")
    ]
    runs = [replace(run, needs=None) if run.needs == "-" else run for run in chain]
    frontier = Frontier(runs, (), {"a": 4, "b": 3, "c": 2, "d": 1, "e": 1})
    assert frontier.take().key == "a"
    assert [run.key for run in frontier.give_up("a")] == ["b", "c", "d"]
    assert frontier.take().key == "e"
    assert frontier.take() is None


def test_a_run_that_was_ready_and_is_dropped_is_not_taken(plan, remaining):
    frontier = Frontier(plan.runs, (), remaining)
    dropped = {run.key for run in frontier.drop_methods({"scratch_adm", "hybrid_ft"})}
    order, _ = drain(frontier)
    assert len(order) == 180 - len(dropped) == 150
    assert not dropped & {run.key for run in order}


def test_runs_that_are_added_go_in_order_among_those_that_wait(plan):
    runs = {key: replace(plan.runs[0], key=key, needs=None) for key in "abc"}
    waits = replace(plan.runs[0], key="d", needs="a")
    frontier = Frontier([runs["a"], runs["b"]], (), {"a": 5, "b": 1})
    frontier.take()
    frontier.add([runs["c"], waits], {"c": 2, "d": 3})
    assert frontier.take().key == "c"
    frontier.note_finished("a")
    assert [frontier.take().key for _ in range(2)] == ["d", "b"]
