"""The virtual clock by hand, its promises on random plans, and the sweep's order held to a bound.

Durations are in seconds. Runs are those of Table 2 with other keys: a pretraining takes a whole GPU,
a fine-tuning of DeepLab a third of one of 16 GB, LEDM an eighth of one of 80 GB.
"""

import itertools
from collections import defaultdict
from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.plan.cost.forecast import H200, forecast, longest_paths
from orchestrator.plan.cost.simulate import Barrier, Loss, misjudged, simulate
from orchestrator.plan.plan import load_plan

SEEDS = range(20)
PLAN = load_plan("table2")
PAPER = forecast(PLAN, device=H200)
WHOLE, THIRD, EIGHTH = (
    "pretrain hybrid isic2018",
    "i1k_deeplab ph2 seed 0",
    "hybrid_ledm ph2 seed 0",
)
TEMPLATES = {run.label: run for run in PLAN.runs}


def run(key, needs=None, like=WHOLE):
    return replace(TEMPLATES[like], key=key, label=key, needs=needs)


def spans(simulation):
    """Return where and when each run ran: GPU, start, end."""
    return {each.run.key: (each.gpu, each.start, each.end) for each in simulation.intervals}


def table2(gpus, *, seed=None, barrier=False, hindsight=False):
    """Simulate Table 2 at paper scale.

    Args:
        seed: of errors of the estimates by up to a factor of 2; None if they are right.
        hindsight: whether the order knows the true durations.
    """
    actual = PAPER.seconds
    if seed is not None:
        actual = misjudged(PAPER.seconds, factor=2, seed=seed)
    return simulate(
        PLAN.runs,
        actual if hindsight else PAPER.seconds,
        gpus=gpus,
        actual=actual,
        policy=Barrier(PLAN.runs) if barrier else None,
    )


# By hand.


def test_three_runs_on_two_gpus():
    # b waits for a; c, the longest alone, is shorter than a and b together.
    runs = [run("a"), run("b", needs="a"), run("c")]
    simulation = simulate(runs, {"a": 4, "b": 3, "c": 5}, gpus=2)
    assert spans(simulation) == {"a": (0, 0, 4), "c": (1, 0, 5), "b": (0, 4, 7)}
    assert simulation.makespan == simulation.bound == simulation.longest_path == 7
    assert simulation.work == 12
    assert simulation.utilisation == pytest.approx(12 / 14)
    assert [each.key for each in simulation.critical] == ["a", "b"]
    assert [each.key for each in simulation.ended_last] == ["a", "b"]


def test_the_order_believes_the_estimates_and_the_clock_does_not():
    # b is thought the longest and goes first; had it been known, a alone beside b and c takes 5.
    runs = [run("a"), run("b"), run("c")]
    simulation = simulate(runs, {"a": 2, "b": 9, "c": 3}, gpus=2, actual={"a": 5, "b": 2, "c": 3})
    assert spans(simulation) == {"b": (0, 0, 2), "c": (1, 0, 3), "a": (0, 2, 7)}
    assert simulation.bound == 5
    assert simulation.ratio == pytest.approx(7 / 5)


def test_fractions_share_a_gpu():
    # Three thirds fill the first GPU of 18 GB, the fourth goes to the second.
    runs = [run(key, like=THIRD) for key in "abcd"]
    simulation = simulate(runs, dict.fromkeys("abcd", 6), gpus=2, gpu_gb=18)
    assert [each.gpu for each in simulation.intervals] == [0, 0, 0, 1]
    assert simulation.makespan == 6
    assert simulation.work == pytest.approx(4 * 6 / 3)
    assert simulation.utilisation == pytest.approx(4 / 6)


def test_thirds_that_come_and_go_leave_room_for_a_whole_run():
    # A third that is counted in floats would leave a crumb, and the whole GPU never be free again.
    runs = [*(run(f"{i}", like=THIRD) for i in range(30)), run("whole")]
    seconds = {**dict.fromkeys((f"{i}" for i in range(30)), 2), "whole": 1}
    assert simulate(runs, seconds, gpus=1, gpu_gb=18).makespan == 30 / 3 * 2 + 1


def test_a_run_without_room_holds_back_those_behind_it():
    # As in Tune: `whole` is next and waits for `small` to leave, and `later` waits with it.
    runs = [run("small", like=EIGHTH), run("whole"), run("later", like=EIGHTH)]
    seconds = {"small": 3, "whole": 2, "later": 1}
    ranks = {"small": 0, "whole": 1, "later": 2}
    simulation = simulate(runs, seconds, gpus=1, rank=lambda each: ranks[each.key])
    assert spans(simulation) == {"small": (0, 0, 3), "whole": (0, 3, 5), "later": (0, 5, 6)}


def test_a_barrier_waits_for_the_last_pretraining():
    # First in, first out: b after a on the first GPU to be free, and d although c has long ended.
    runs = [run("a"), run("b"), run("c"), run("d", needs="c", like="hybrid_ft ph2 seed 0")]
    seconds = {"a": 2, "b": 9, "c": 1, "d": 1}
    simulation = simulate(runs, seconds, gpus=2, policy=Barrier(runs))
    assert spans(simulation) == {"a": (0, 0, 2), "c": (0, 2, 3), "b": (1, 0, 9), "d": (0, 9, 10)}
    assert simulate(runs, seconds, gpus=2).makespan == 9


def test_a_lost_gpu_redoes_only_what_no_checkpoint_holds():
    # Lost at 250 with a checkpoint at 200: 50 of 400 are done again, on the other GPU, at 300.
    runs = [run("a"), run("b")]
    simulation = simulate(
        runs,
        {"a": 400, "b": 300},
        gpus=2,
        losses=[Loss(gpu=0, at=250)],
        checkpoint_seconds=100,
    )
    ran = [(x.run.key, x.gpu, x.start, x.end, x.finished) for x in simulation.intervals]
    assert ran == [("a", 0, 0, 250, False), ("b", 1, 0, 300, True), ("a", 1, 300, 500, True)]
    assert simulation.work == 700


def test_a_run_that_is_lost_twice_keeps_what_both_attempts_saved():
    # 1000 long, checkpoints every 100: 300 kept at 350, then 300 + 250 = 550 done, 500 kept.
    simulation = simulate(
        [run("a")],
        {"a": 1000},
        gpus=1,
        losses=[Loss(gpu=0, at=350, back=400), Loss(gpu=0, at=650, back=700)],
        checkpoint_seconds=100,
    )
    assert [(x.start, x.end) for x in simulation.intervals] == [(0, 350), (400, 650), (700, 1200)]


def test_losing_the_last_gpu_is_an_error():
    with pytest.raises(ValueError, match="leave no GPU"):
        simulate([run("a")], {"a": 9}, gpus=1, losses=[Loss(gpu=0, at=1)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"gpus": 0}, "gpus must be > 0"), ({"losses": [Loss(gpu=2, at=1)]}, "must be in 0..1")],
)
def test_what_there_is_not_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        simulate([run("a")], {"a": 9}, **{"gpus": 2, **changes})


def test_nothing_to_run_takes_no_time():
    simulation = simulate([], {}, gpus=4)
    assert (simulation.makespan, simulation.utilisation, simulation.ratio) == (0, 0, 1)
    assert simulation.critical == simulation.ended_last == ()


def test_what_a_finished_run_unlocks_is_ready():
    assert simulate([run("b", needs="finished")], {"b": 2}, gpus=1).makespan == 2


# On random plans.


@st.composite
def forests(draw):
    """Draw runs of several stages and shares, with their estimated and their true durations."""
    runs = []
    for i in range(draw(st.integers(1, 12))):
        needs = draw(st.sampled_from([None, *(each.key for each in runs)]))
        runs.append(run(f"{i}", needs, draw(st.sampled_from([WHOLE, THIRD, EIGHTH]))))
    seconds = {each.key: draw(st.floats(0.5, 100)) for each in runs}
    wrong = misjudged(seconds, factor=draw(st.floats(1, 4)), seed=draw(st.integers(0, 99)))
    return runs, seconds, wrong


def most_at_once(intervals):
    """Return the largest sum of shares that are in use at once."""
    moments = [(each.start, 1, each.share) for each in intervals]
    moments += [(each.end, 0, -each.share) for each in intervals]  # An end before a start.
    return max(itertools.accumulate(share for *_, share in sorted(moments)))


@settings(max_examples=60, deadline=None)
@given(forests(), st.integers(1, 4), st.sampled_from([16, 80]), st.booleans())
def test_any_schedule_is_possible_and_none_beats_the_bound(forest, gpus, gpu_gb, barrier):
    runs, seconds, wrong = forest
    if barrier:  # It knows two stages, not that a pretraining may wait for a fine-tuning.
        runs = [each for each in runs if each.needs is None]
    policy = Barrier(runs) if barrier else None
    simulation = simulate(runs, seconds, gpus=gpus, gpu_gb=gpu_gb, actual=wrong, policy=policy)
    found = {each.run.key: each for each in simulation.intervals}
    assert found.keys() == {each.key for each in runs}
    assert len(found) == len(simulation.intervals)
    for key, each in found.items():
        assert each.end - each.start == pytest.approx(wrong[key])
        assert each.run.needs is None or found[each.run.needs].end <= each.start
    lanes = defaultdict(list)
    for each in simulation.intervals:
        lanes[each.gpu].append(each)
    assert lanes.keys() <= set(range(gpus))
    assert all(most_at_once(lane) <= 1 + 1e-9 for lane in lanes.values())
    assert simulation.makespan >= simulation.bound * (1 - 1e-9)
    assert 0 < simulation.utilisation <= 1 + 1e-9
    own = {key: wrong[key] for key in found}
    assert simulation.longest_path == max(longest_paths(runs, own).values())


@settings(max_examples=40, deadline=None)
@given(forests(), st.integers(2, 4), st.floats(1, 200), st.sampled_from([1.0, 10.0, 1000.0]))
def test_a_loss_repeats_no_more_than_a_checkpoint_interval(forest, gpus, at, interval):
    runs, seconds, _ = forest
    lost = simulate(
        runs, seconds, gpus=gpus, losses=[Loss(gpu=0, at=at)], checkpoint_seconds=interval
    )
    spent = defaultdict(float)
    for each in lost.intervals:
        spent[each.run.key] += each.end - each.start
    repeated = {key: spent[key] - seconds[key] for key in seconds}
    assert all(-1e-6 <= more <= interval + 1e-6 for more in repeated.values())
    unfinished = {each.run.key for each in lost.intervals if not each.finished}
    assert all(key in unfinished for key, more in repeated.items() if more > 1e-6)


def test_one_gpu_takes_the_sum_of_the_work():
    whole = [each for each in PLAN.runs if each.pretraining]
    simulation = simulate(whole, PAPER.seconds, gpus=1)
    assert simulation.makespan == pytest.approx(PAPER.hours("pretraining") * 3600)
    assert simulation.utilisation == pytest.approx(1)


def test_the_same_seed_gives_the_same_errors_and_the_same_sweep():
    assert table2(8, seed=3).intervals == table2(8, seed=3).intervals
    assert table2(8, seed=3).makespan != table2(8, seed=4).makespan
    factors = [
        misjudged(PAPER.seconds, factor=2, seed=0)[key] / PAPER.seconds[key]
        for key in PAPER.seconds
    ]
    assert 0.5 <= min(factors) < 0.55
    assert 1.9 < max(factors) <= 2
    assert median(factors) == pytest.approx(1, abs=0.15)  # Log-uniform: as often under as over.


# The order of the sweep, on Table 2 at paper scale.


@pytest.mark.parametrize("gpus", [1, 2, 3, 4, 8, 16, 64])
def test_with_right_estimates_a_sweep_takes_little_more_than_the_bound(gpus):
    assert table2(gpus).ratio <= 1.02


# The share depends on the durations: with the ADM's rates corrected, more of 4 GPUs' time is pretrainings.
@pytest.mark.parametrize(("gpus", "most"), [(1, 1.0), (4, 0.8), (8, 0.9)])
def test_with_estimates_wrong_by_up_to_two_most_sweeps_stay_within_a_tenth_of_the_bound(
    gpus, most
):
    ratios = [table2(gpus, seed=seed).ratio for seed in SEEDS]
    assert sum(ratio <= 1.10 for ratio in ratios) >= most * len(ratios)
    assert median(ratios) <= 1.03
    # Those that take longer started a pretraining last that lasts twice as long as thought: over
    # 200 seeds, 15 % of the sweeps on 4 GPUs and 2 % on 8 (benchmarks/scheduling.py).
    assert max(ratios) <= 1.25


@pytest.mark.parametrize("gpus", [1, 4, 8])
def test_what_a_sweep_takes_longer_is_what_nobody_knew(gpus):
    assert max(table2(gpus, seed=seed, hindsight=True).ratio for seed in SEEDS) <= 1.05


@pytest.mark.parametrize("gpus", [4, 8, 12, 16])
def test_a_sweep_is_faster_than_two_stages_with_a_barrier(gpus):
    assert table2(gpus).makespan < table2(gpus, barrier=True).makespan
    gains = [
        table2(gpus, seed=seed, barrier=True).makespan / table2(gpus, seed=seed).makespan
        for seed in SEEDS
    ]
    assert median(gains) > 1


def test_celeba_and_its_longest_run_are_the_critical_path():
    assert [each.label for each in table2(8).critical] == [
        "pretrain supervised celebamask_hq",
        "supervised_ledm ffhq34 seed 0",
    ]
