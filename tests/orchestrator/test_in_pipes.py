"""What a pipe is told: everything, whole, whatever the terminal's size is said to be; and what a narrow terminal is."""

import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from orchestrator.plan.plan import Cell, load_plan
from orchestrator.report.cells import make_table
from orchestrator.report.writers.terminal import render
from orchestrator.store.home.home import open_home
from orchestrator.store.store import Store
from orchestrator.verbs.run import table_of, write_table
from tests.command_line import hdsweep
from tests.stored_runs import commit_made_up

SIZES = [{}, {"COLUMNS": "40", "LINES": "10"}, {"COLUMNS": "80"}]
STUDY = """
title = "Rows [/that] look like [red]markup, and :fire: like an emoji"
seeds = [0, 1]
methods = ["scratch_adm", "hybrid_ft"]

[sources.isic2018]
targets = ["ph2"]
"""
PRINTED = """
from tests.orchestrator.test_in_pipes import published_table
from orchestrator.commands.common import print_table
print_table(published_table())
"""


def published_table():
    """Return a table of the paper's plan, as if it had been run on its own data."""
    plan = load_plan("table2")
    values = {}
    for cell, key in plan.table.items():
        number = 90.0 if cell.method == "hybrid_ft" else 50.0
        name = f"test_{plan.by_key[key].spec.dataset.metric}"
        values[key] = {name: number + cell.seed / 10, "best_val": 0.0}
    return make_table(plan, values)


@pytest.mark.parametrize("size", SIZES)
def test_published_values_are_whole_in_a_pipe(size):
    environment = {name: value for name, value in os.environ.items() if name not in SIZES[1]}
    done = subprocess.run(
        [sys.executable, "-c", PRINTED],
        check=True,
        capture_output=True,
        text=True,
        env=environment | size,
    )
    table = published_table()
    assert table.comparable
    lines = done.stdout.splitlines()
    for method in table.methods:
        at = next(n for n, line in enumerate(lines) if line.split()[:1] == [method])
        best = [
            f"{'*' if cell.best else ''}{cell}".replace(" ± ", "±") for cell in table.row(method)
        ]
        assert [each for each in lines[at].split()[1:] if each != "†"] == best
        for cell in table.row(method):
            if cell.published.mean is not None:
                assert f"{cell.published.mean:.2f}" in lines[at + 1]
            if cell.published.std is not None:
                assert f"±{cell.published.std:.2f}" in lines[at + 1]
    assert any(line.startswith("*: best of its column") for line in lines)
    assert "bold" not in done.stdout
    assert "…" not in done.stdout


@pytest.fixture(scope="module")
def stored(tmp_path_factory, empty_database):
    folder = tmp_path_factory.mktemp("pipes")
    (folder / "mine.toml").write_text(STUDY)
    home = open_home(folder / "home")
    shutil.copy(empty_database, home.database)
    plan = load_plan(str(folder / "mine.toml"), scale="smoke")
    with Store.open(home) as store:
        store.begin_sweep(plan, "hdsweep run mine.toml")
        commit_made_up(store, plan)
        store.note_end(complete=True)
        write_table(store, table_of(plan, store), plan)
        store.end_sweep(complete=True)
    return folder


@pytest.mark.parametrize("verb", ["run", "report", "status", "plan", "compare"])
def test_every_verb_says_the_same_in_a_pipe_of_any_size(stored, verb):
    home = stored / "home"
    of_study = ("mine/smoke", "--home", home) if verb != "compare" else (home, home)
    said = [hdsweep(verb, *of_study, **size)[0] for size in SIZES]
    # When it was made, and in how many commands, is another with each `run`.
    (text,) = {re.sub(r"(?m)^made by .*$", "", each) for each in said}
    assert "\x1b" not in text
    assert "…" not in text
    title = "Rows [/that] look like [red]markup, and :fire: like an emoji"
    assert (text.count(title), text.count("scratch_adm") > 0) == (
        verb != "compare",
        verb != "status",
    )


def test_a_title_is_as_wide_as_the_terminal_not_as_the_table():
    plan = load_plan("table2", scale="smoke", methods="hybrid_ft", targets="ph2")
    plan = replace(plan, title="A title of six words, no more")
    values = {plan.table[Cell("hybrid_ft", "ph2", 0)]: {"test_jaccard": 50.0, "best_val": 0.0}}
    out = io.StringIO()
    Console(file=out, width=80, force_terminal=True, color_system=None).print(
        render(make_table(plan, values))
    )
    table = make_table(plan, values)
    assert len(table.title) <= 80
    assert out.getvalue().splitlines()[0] == table.title
