"""What Optuna is asked and told: a closed-form objective, so that nothing is trained."""

import math
from statistics import fmean

import optuna
import pytest

from orchestrator.errors import InputError
from orchestrator.study.from_search import with_tuned, write_answer
from orchestrator.study.study import load_study
from orchestrator.tuning.answer import answer_of
from orchestrator.tuning.ledger import Ledger, journal_of
from orchestrator.tuning.pages import curve, findings, markdown, write_pages
from orchestrator.tuning.search import make_search

BEST = 3e-3


def closed_form(values, rung, rungs):
    """Return a parabola in log lambda with its top at 3e-3; early rungs see it flattened."""
    distance = math.log10(values["lambda"] / BEST)
    return 80 - 4 * distance**2 * (rung + 1) / rungs


def search(home, **changes):
    told = {
        "study": "table2",
        "home": home,
        "scale": "demo",
        "source": "isic2018",
        "targets": "ph2",
    }
    return make_search("lambda", **{**told, **changes})


def evaluate(ledger, made, trial, values):
    """Bring a trial to its end, as the driver does; return its last value."""
    for rung in range(made.rungs):
        value = closed_form(values, rung, made.rungs)
        ledger.note(trial, f"rung_{rung}", {"ph2": [value - 0.1, value + 0.1]})
        if ledger.report(trial, rung, value):
            ledger.prune(trial)
            return value
    ledger.complete(trial, value)
    return value


def run(made, stop_after=None):
    ledger = Ledger(made)
    count = 0
    while (asked := ledger.ask()) is not None:
        evaluate(ledger, made, *asked)
        count += 1
        if count == stop_after:
            break
    return ledger


def plain(made):
    """Read the storage with Optuna alone."""
    backend = optuna.storages.journal.JournalFileBackend(str(journal_of(made)))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name=made.name, storage=storage)


def test_stopped_trials_are_pruned_in_the_storage_with_the_values_of_their_rungs(tmp_path):
    made = search(tmp_path, trials=12)
    run(made)
    study = plain(made)
    states = [trial.state for trial in study.trials]
    assert len(states) == 12
    pruned = [t for t in study.trials if t.state is optuna.trial.TrialState.PRUNED]
    complete = [t for t in study.trials if t.state is optuna.trial.TrialState.COMPLETE]
    assert pruned
    assert complete
    assert len(pruned) + len(complete) == 12
    assert all(set(t.intermediate_values) == {1, 3, 9} for t in complete)
    assert all(set(t.intermediate_values) < {1, 3, 9} for t in pruned)


def test_the_first_point_is_the_papers_and_no_point_comes_twice(tmp_path):
    made = search(tmp_path, trials=15)
    run(made)
    values = [trial.params["lambda"] for trial in plain(made).trials]
    assert values[0] == 1e-4
    assert len(set(values)) == 15


def test_the_same_seed_proposes_the_same_points_interrupted_or_not(tmp_path):
    straight = search(tmp_path / "a", trials=10)
    run(straight)
    cut = search(tmp_path / "b", trials=10)
    run(cut, stop_after=4)
    run(cut)
    other = search(tmp_path / "c", trials=10, seed=1)
    run(other)
    points = [[t.params["lambda"] for t in plain(each).trials] for each in (straight, cut, other)]
    assert points[0] == points[1]
    assert points[0][1:] != points[2][1:]


def test_a_trial_that_a_killed_driver_left_goes_on_and_is_not_a_new_one(tmp_path):
    made = search(tmp_path, trials=3)
    ledger = Ledger(made)
    trial, values = ledger.ask()
    ledger.report(trial, 0, 50.0)
    del ledger
    again = Ledger(made)
    (left,) = again.left()
    assert again.values(left) == values
    assert again.rungs_of(left) == {1: 50.0}
    evaluate(again, made, left, again.values(left))
    run(made)
    study = plain(made)
    assert len(study.trials) == 3
    assert not [t for t in study.trials if t.state is optuna.trial.TrialState.RUNNING]
    assert study.trials[0].intermediate_values[1] == 50.0  # A rung is told once.


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_a_failure_with_its_reason(tmp_path, value):
    made = search(tmp_path, trials=1)
    ledger = Ledger(made)
    trial, _ = ledger.ask()
    ledger.complete(trial, value)
    (told,) = plain(made).trials
    assert told.state is optuna.trial.TrialState.FAIL
    assert "its value is" in told.user_attrs["reason"]


def test_a_grid_is_tried_whole_and_only_once(tmp_path):
    made = search(tmp_path, trials=50, sampler="grid", scheduler="none")
    assert made.trials == 6
    run(made)
    values = sorted(trial.params["lambda"] for trial in plain(made).trials)
    assert values == [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0]


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "random"])
def test_every_sampler_makes_its_trials(tmp_path, sampler):
    made = search(tmp_path, trials=7, sampler=sampler)
    run(made)
    assert len(plain(made).trials) == 7


@pytest.mark.parametrize("scheduler", ["hyperband", "median", "none"])
def test_every_scheduler_ends_every_trial(tmp_path, scheduler):
    made = search(tmp_path, trials=10, scheduler=scheduler)
    run(made)
    assert all(trial.state.is_finished() for trial in plain(made).trials)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "random"}, "was begun with sampler tpe, not random"),
        ({"objective": "worst-target"}, "was begun with objective mean, not worst-target"),
        ({"low": 1e-3}, "was begun with space"),
        ({"seed": 3}, "was begun with seed 0, not 3"),
    ],
)
def test_a_search_that_was_begun_otherwise_is_not_gone_on_with(tmp_path, changes, message):
    run(search(tmp_path, trials=2, name="mine"))
    with pytest.raises(InputError, match=message):
        Ledger(search(tmp_path, trials=2, name="mine", **changes))


def test_other_spaces_and_targets_are_other_searches(tmp_path):
    names = {
        search(tmp_path).name,
        search(tmp_path, low=1e-3).name,
        search(tmp_path, targets="ph2,dermis").name,
        search(tmp_path, source="shenzhen", targets="nih").name,
        search(tmp_path, overrides=["pretraining.updates=40"]).name,
    }
    assert len(names) == 5


def test_a_damaged_storage_is_named(tmp_path):
    made = search(tmp_path, trials=2)
    journal_of(made).parent.mkdir(parents=True)
    journal_of(made).write_text('{"op_code": 99}\nnonsense\n{}\n')
    with pytest.raises(
        InputError, match=r"the storage of the search, .*journal, cannot be opened"
    ):
        Ledger(made)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 0}, "--trials 0"),
        ({"sampler": "anneal"}, "--sampler anneal: must be one of tpe"),
        ({"scheduler": "pbt"}, "--scheduler pbt: must be one of asha"),
        ({"targets": "nih"}, "target `nih` does not belong to the source `isic2018`"),
        ({"source": "isic2017"}, "unknown source `isic2017`"),
        ({"low": 1.0, "high": 1e-3}, "must ascend"),
    ],
)
def test_what_was_asked_wrong_is_named(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        search(tmp_path, **changes)


def test_the_first_source_of_the_study_is_searched_by_default(tmp_path):
    made = make_search("lambda", study="table2", home=tmp_path, scale="demo")
    assert made.source == "isic2018"
    assert set(made.targets) == {"dermis", "ph2"}


def test_a_continuous_space_has_no_grid_and_a_shared_pretraining_no_rungs(tmp_path):
    told = {"study": "table2", "home": tmp_path, "scale": "demo", "source": "isic2018"}
    with pytest.raises(InputError, match="continuous and has no grid"):
        make_search("lr", sampler="grid", **told)
    with pytest.raises(InputError, match="nothing for --scheduler asha to cut short"):
        make_search("lr", scheduler="asha", **told)
    with pytest.raises(InputError, match="unknown search space `lamda`"):
        make_search("lamda", **told)


def test_a_grid_of_which_the_bounds_leave_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="no value of the grid of lambda lies between the bounds"):
        search(tmp_path, sampler="grid", low=2e-5, high=5e-5)


def test_tuning_seeds_are_none_of_the_studys_however_high_those_are(tmp_path):
    study = tmp_path / "mine.toml"
    study.write_text(
        'title = "mine"\nmethods = ["hybrid_ft"]\nseeds = [999, 1000]\n'
        '[sources.isic2018]\ntargets = ["ph2"]\n'
    )
    assert search(tmp_path, study=str(study)).seeds == (1001, 1002)


def test_the_answer_names_the_best_what_is_as_good_and_the_papers_own(tmp_path):
    made = search(tmp_path, trials=14)
    ledger = run(made)
    answer = answer_of(made, ledger)
    best = max(closed_form(t.params, 2, 3) for t in plain(made).trials if t.value is not None)
    assert answer.best.value == pytest.approx(best)
    # Two seeds 0.2 apart: a standard deviation of 0.1414, so two standard errors of a difference
    # of two means are 0.2828.
    assert answer.noise == pytest.approx(0.2 * math.sqrt(2), rel=1e-3)
    assert answer.reference.value == pytest.approx(80 - 4 * math.log10(1e-4 / BEST) ** 2)
    spent, whole = answer.updates
    assert spent < whole == 14 * made.budgets[-1]
    text = " ".join(findings(answer))
    assert "The paper's own (lambda = 0.0001) is" in text
    assert f"hdsweep run table2 --from-tune {made.name}" in text
    assert "stopped at" in markdown(answer)
    write_pages(answer, ledger, tmp_path / "pages")
    page = (tmp_path / "pages/answer.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("https://", "")
    assert "`" not in page
    assert f"<code>hdsweep run table2 --from-tune {made.name}</code>" in page
    assert "color-scheme:light dark" in page
    one = answer.complete[-1]
    seeds = ", ".join(f"{value:.2f}" for value in one.by_target["ph2"])
    assert f"<tr><td>{one.number}<td>{seeds}" in page
    names = {path.name for path in (tmp_path / "pages/optuna").iterdir()}
    assert {"slice.html", "slice.png", "intermediate_values.html"} <= names


def answer_to(made, form):
    """Return the answer of a search whose trials have the values of `form(values, rung)` by target."""
    ledger = Ledger(made)
    while (asked := ledger.ask()) is not None:
        trial, values = asked
        for rung in range(made.rungs):
            by_target = form(values, rung)
            ledger.note(trial, f"rung_{rung}", {name: [v, v] for name, v in by_target.items()})
            if ledger.report(trial, rung, fmean(by_target.values())):
                ledger.prune(trial)
                break
        else:
            ledger.complete(trial, fmean(by_target.values()))
    return answer_of(made, ledger)


def test_what_sharing_one_value_and_taking_the_papers_costs_each_target(tmp_path):
    values = {  # By hand: means 65.5, 66 and 70, so that 1e-2 is shared.
        1e-4: {"ph2": 81.0, "dermis": 50.0},
        1e-3: {"ph2": 82.0, "dermis": 50.0},
        1e-2: {"ph2": 80.0, "dermis": 60.0},
    }
    grid = {"sampler": "grid", "scheduler": "none", "low": 1e-4, "high": 1e-2}
    answer = answer_to(
        search(tmp_path, targets="ph2,dermis", **grid), lambda v, _: values[v["lambda"]]
    )
    text = findings(answer)
    assert "The paper's own (lambda = 0.0001) is 4.50 points behind." in text
    ph2 = "the shared choice costs it 2.00 points, the paper's own 1.00."
    assert f"ph2-like alone would take lambda = 0.001; {ph2}" in text
    dermis = "the shared choice costs it 0.00 points, the paper's own 10.00."
    assert f"dermis-like alone would take lambda = 0.01; {dermis}" in text


def test_of_the_papers_value_that_was_stopped_no_regret_is_claimed(tmp_path):
    # Median: of five trials the fifth can be stopped; the paper's is the last of this grid to 1e-4.
    made = search(tmp_path, sampler="grid", scheduler="median", low=1e-4)
    answer = answer_to(made, lambda v, rung: {"ph2": 80 + math.log10(v["lambda"]) + rung})
    (stopped,) = (each for each in answer.tried if each.state == "pruned")
    assert stopped.values == {"lambda": 1e-4}
    named = "The paper's own (lambda = 0.0001) was stopped at"
    assert f"{named} {made.budgets[0]} updates: how far behind it ends is not known." in findings(
        answer
    )
    assert f"| stopped at {made.budgets[0]} updates |" in markdown(answer)
    drawn = {line.get_label(): line for line in curve(answer, "lambda").axes[0].lines}
    assert list(drawn["ph2-like"].get_xdata()) == [1e-3, 1e-2, 1e-1, 1.0]
    assert list(drawn["ph2-like, stopped early"].get_xdata()) == [1e-4]


def test_what_was_stopped_far_below_does_not_hide_what_differs_above(tmp_path):
    made = search(tmp_path, sampler="grid", scheduler="median", low=1e-4)
    steps = {1e-4: 5.0}
    answer = answer_to(made, lambda v, rung: {"ph2": steps.get(v["lambda"], 80.0) + rung})
    (axes,) = curve(answer, "lambda").axes
    low, high = axes.get_ylim()
    assert 75 < low < high < 90
    (stopped,) = (line for line in axes.lines if "stopped" in line.get_label())
    assert list(stopped.get_ydata()) == [low]


def test_a_search_of_two_parameters_has_a_curve_for_each_and_every_plot_that_applies(tmp_path):
    told = {"study": "table2", "home": tmp_path, "scale": "demo", "targets": "ph2"}
    made = make_search("joint", source="isic2018", trials=8, **told)
    answer = answer_to(
        made, lambda v, rung: {"ph2": 80 + math.log10(v["lambda"] * v["lr"]) + rung}
    )
    write_pages(answer, Ledger(made), tmp_path / "pages")
    assert {"curve_lambda.png", "curve_lr.png"} <= {f.name for f in (tmp_path / "pages").iterdir()}
    plots = (
        "optimization_history",
        "slice",
        "intermediate_values",
        "contour",
        "param_importances",
    )
    names = {file.name for file in (tmp_path / "pages/optuna").iterdir()}
    assert {f"{plot}.{kind}" for plot in plots for kind in ("html", "png")} <= names


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pretraining.mask_weight": 0.01}, "hybrid rows on isic2018 use pretraining.mask_weight"),
        ({"pretraining.optimizer.lr": 1e-3}, "all rows pretrained on isic2018 use pretraining"),
        ({"fine_tuning.optimizer.lr": 1e-3}, "hybrid_ft uses on every target fine_tuning"),
    ],
)
def test_the_footer_says_which_rows_use_what_was_tuned_and_what_that_took(
    tmp_path, settings, expected
):
    answer = {"source": "isic2018", "targets": ["ph2"], "settings": settings}
    (tmp_path / "tuning").mkdir()
    write_answer(tmp_path, "mine", {**answer, "trials": 12, "updates": 7200})
    _, sentence = with_tuned(load_study("table2"), tmp_path, "mine")
    assert sentence.startswith(expected)
    assert "(12 trials, 7,200 pretraining updates, validation images only)" in sentence


def test_one_tuning_seed_claims_no_lead(tmp_path):
    made = search(tmp_path, trials=4, seeds=1)
    ledger = Ledger(made)
    while (asked := ledger.ask()) is not None:
        trial, values = asked
        value = closed_form(values, 0, 1)
        ledger.note(trial, f"rung_{made.rungs - 1}", {"ph2": [value]})
        ledger.complete(trial, value)
    answer = answer_of(made, ledger)
    assert answer.noise is None
    text = " ".join(findings(answer))
    assert "One tuning seed: how much of a difference is noise is not known." in text
    assert "Ahead of all others" not in text


def test_joint_trials_share_the_pretraining_of_their_lambda(tmp_path):
    told = {"study": "table2", "home": tmp_path, "scale": "demo", "source": "isic2018"}
    made = make_search("joint", **told)
    one, tuned = made.runs({"lambda": 1e-3, "lr": 1e-4}, 2)
    other, tuned_otherwise = made.runs({"lambda": 1e-3, "lr": 1e-3}, 2)
    assert one.key == other.key
    assert {run.key for run in tuned}.isdisjoint(run.key for run in tuned_otherwise)


def test_the_papers_own_lambda_at_full_budget_is_the_pretraining_of_table_2(tmp_path):
    from orchestrator.plan.plan import load_plan

    made = search(tmp_path)
    tuned, fine_tunings = made.runs({"lambda": 1e-4}, made.rungs - 1)
    plan = load_plan("table2", scale="demo", home=tmp_path)
    assert tuned.key in plan.by_key
    assert not {run.key for run in fine_tunings} & set(plan.by_key)
    assert all(run.spec.task == "finetune_validation" for run in fine_tunings)
    assert not {run.seed for run in fine_tunings} & set(plan.seeds)
