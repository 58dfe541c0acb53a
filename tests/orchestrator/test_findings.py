"""What a table shows in sentences, and what it says of the paper only where the study names it."""

import pytest

from orchestrator.errors import InputError
from orchestrator.plan.plan import Cell, load_plan
from orchestrator.report.cells import BEST_RULE, make_table
from orchestrator.report.evidence import Evidence
from orchestrator.report.findings import in_a_sentence, not_told
from orchestrator.report.writers.latex import render as latex
from orchestrator.report.writers.markdown import render as markdown
from orchestrator.report.writers.page import render as page
from orchestrator.report.writers.records import to_records
from orchestrator.study.study import PAPER, load_study, study_names

ROWS = ("scratch_adm", "supervised_ft", "hybrid_ft")
OWN = """
title = "mine"
seeds = [0, 1, 2]
methods = ["scratch_adm", "hybrid_ft"]
scale = "smoke"
[sources.isic2018]
targets = ["ph2"]
"""


def table_of(values, **asked):
    """Return a table of two targets from (method, target) to the values of the seeds."""
    plan = load_plan(
        "table2", scale="smoke", methods=",".join(ROWS), targets="ph2,dermis", **asked
    )
    metrics = {
        plan.table[Cell(method, target, seed)]: {"test_jaccard": value}
        for (method, target), numbers in values.items()
        for seed, value in zip(plan.seeds, numbers, strict=True)
    }
    return plan, make_table(plan, metrics)


def around(mean):
    return (mean - 0.1, mean, mean + 0.1)


CLEAR = {
    ("scratch_adm", "ph2"): around(70),
    ("supervised_ft", "ph2"): around(90),
    ("hybrid_ft", "ph2"): around(80),
    ("scratch_adm", "dermis"): (50, 60, 70),
    ("supervised_ft", "dermis"): around(66),
    ("hybrid_ft", "dermis"): around(40),
}


def test_a_sentence_says_what_is_highest_and_what_is_told():
    _, table = table_of(CLEAR)
    assert in_a_sentence(table) == (
        "generated data: Supervised, fine-tuning is highest on 2 of 2 targets, "
        "told from all others on 1"
    )
    (line,) = not_told(table)
    assert line == (
        "DermIS-like: Supervised, fine-tuning (66.0 ± 0.1) is highest, "
        "and not told from ADM from scratch"
    )
    assert BEST_RULE in table.notes


def test_where_methods_share_the_targets_each_is_named():
    _, table = table_of(CLEAR | {("hybrid_ft", "dermis"): around(95)})
    assert in_a_sentence(table).endswith(
        "Supervised, fine-tuning is highest on 1 of 2 targets, told from all others on 1; "
        "Hybrid, fine-tuning on 1, told from all others on 1"
    )


def test_of_one_seed_nothing_is_bold_and_nothing_explains_bold():
    _, table = table_of({cell: values[1:2] for cell, values in CLEAR.items()}, seeds="0")
    assert BEST_RULE not in table.notes
    assert not_told(table) == []
    assert "how much of a difference is noise is not known" in in_a_sentence(table)


def test_where_nothing_is_bold_the_page_says_from_which_it_is_not_told():
    # Another order of the seeds for each method: together they would cancel, seed by seed.
    orders = {
        "scratch_adm": (-20, 0, 20),
        "supervised_ft": (20, -20, 0),
        "hybrid_ft": (0, 20, -20),
    }
    wide = {cell: [v[1] + by for by in orders[cell[0]]] for cell, v in CLEAR.items()}
    plan, table = table_of(wide)
    assert not any(cell.best for cell in table.cells.values())
    assert BEST_RULE not in table.notes
    text = page(table, Evidence(plan, {}), {})
    assert "bold:" not in text
    for line in not_told(table):
        assert line in text
    assert len(not_told(table)) == 2


def test_of_a_target_with_a_seed_to_come_nothing_is_said():
    some = {cell: values for cell, values in CLEAR.items() if cell != ("hybrid_ft", "ph2")}
    _, table = table_of(some)
    assert "1 of 1 target," in in_a_sentence(table)


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(OWN)
    return file


def test_a_study_that_names_no_paper_is_held_against_none(own):
    plan = load_plan(str(own))
    metrics = {key: {"test_jaccard": 70.0 + cell.seed} for cell, key in plan.table.items()}
    table = make_table(plan, metrics)
    html = page(table, Evidence(plan, {}), {})
    body = html[html.index("<body>") :]
    for text in (markdown(table), latex(table).replace("a4paper", ""), body):
        for word in ("claims", "comparable", "paper", "ublished"):
            assert word not in text, word
    record = to_records(table)[0]
    assert (record["published"], record["verdict"], record["comparable"]) == (None, None, False)
    assert plan.not_comparable == ("the study names no paper",)


def test_naming_the_paper_moves_no_key(own):
    before = load_plan(str(own))
    own.write_text(OWN.replace("seeds", f'paper = "{PAPER}"\nseeds', 1))
    after = load_plan(str(own))
    assert before.by_key.keys() == after.by_key.keys()
    assert "generated images" in after.not_comparable
    assert "What the paper claims" in page(make_table(after, {}), Evidence(after, {}), {})


def test_a_paper_of_which_nothing_is_known_is_refused(own):
    own.write_text(OWN.replace("seeds", 'paper = "arXiv:1234.5678"\nseeds', 1))
    with pytest.raises(InputError, match=r"no published numbers are known\n\nhint: `paper = "):
        load_plan(str(own))


@pytest.mark.parametrize("name", study_names())
def test_our_studies_name_it(name):
    assert load_study(name).paper == PAPER
