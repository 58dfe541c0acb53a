"""The table: numbers by hand, nothing averaged silently, and labels on every format."""

import csv
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from orchestrator.plan.plan import Cell, load_plan
from orchestrator.report import write_report
from orchestrator.report.cells import make_table, published
from orchestrator.report.writers.latex import escaped
from orchestrator.report.writers.latex import render as render_latex
from orchestrator.report.writers.markdown import render as render_markdown
from orchestrator.report.writers.records import to_records, write_parquet
from orchestrator.report.writers.terminal import render as render_terminal


@pytest.fixture(scope="module")
def demo():
    return load_plan("table2", scale="demo")


@pytest.fixture(scope="module")
def paper():
    return load_plan("table2")


def finished(plan, values):
    """Return metrics by key; `values` maps (method, target) to one number per seed or None."""
    metrics = {}
    for (method, target), numbers in values.items():
        for seed, number in zip(plan.seeds, numbers, strict=True):
            key = plan.table[Cell(method, target, seed)]
            name = f"test_{plan.by_key[key].spec.dataset.metric}"
            if number is not None:
                metrics[key] = {name: number, "best_val": 0.0}
    return metrics


def all_at(plan, number):
    spread = (number - 0.1, number, number + 0.1)
    return {(m, t): spread for m in plan.methods for t in plan.targets}


def test_mean_and_sample_standard_deviation(demo):
    # Squared deviations sum to 0.0867; over n - 1 = 2 the root is 0.2082, over n = 3 it is 0.1700.
    table = make_table(demo, finished(demo, {("hybrid_ft", "ph2"): (88.0, 88.3, 88.4)}))
    cell = table.cells["hybrid_ft", "ph2"]
    assert cell.mean == pytest.approx(88.2333, abs=1e-4)
    assert cell.std == pytest.approx(0.2082, abs=5e-5)
    assert str(cell) == "88.2 ± 0.2"


def test_a_missing_seed_shows_in_print_and_is_named(demo):
    values = finished(demo, {("hybrid_ft", "ph2"): (88.0, None, 88.4)})
    failed = demo.table[Cell("hybrid_ft", "ph2", 1)]
    table = make_table(demo, values, {failed: "diverged: loss is not finite at update 7"})
    assert str(table.cells["hybrid_ft", "ph2"]) == "88.2 ± 0.3 [2/3]"
    wanted = "missing: hybrid_ft ph2-like seed 1: failed: diverged: loss is not finite at update 7"
    assert wanted in table.notes
    assert wanted in render_markdown(table)


def test_seeds_missing_for_one_reason_are_one_line(demo):
    killed = {demo.table[Cell("hybrid_ft", "ph2", seed)]: "worker lost" for seed in demo.seeds}
    table = make_table(demo, {}, killed)
    missing = [note for note in table.notes if note.startswith("missing: ")]
    named = ", ".join(f"hybrid_ft ph2-like seed {seed}" for seed in (0, 1, 2))
    assert f"missing: {named}: failed: worker lost" in missing
    # The other 162 of 165, of which six are named.
    assert [note for note in missing if "and 156 more: not run" in note] == missing[:1]
    assert len(missing) == 2


def test_an_empty_cell_is_a_dash_with_its_count(demo):
    table = make_table(demo, {})
    assert str(table.cells["scratch_adm", "nih"]) == "– [0/3]"
    assert table.cells["scratch_adm", "nih"].missing == dict.fromkeys((0, 1, 2), "not run")


def test_a_cell_whose_pretraining_failed_says_so(demo):
    needs = demo.by_key[demo.table[Cell("hybrid_ft", "ph2", 0)]].needs
    table = make_table(demo, {}, {needs: "worker lost: killed"})
    assert (
        table.cells["hybrid_ft", "ph2"].missing[0]
        == "blocked: pretrain hybrid isic2018-like failed"
    )


def test_bold_only_what_is_told_from_every_other(demo):
    # Differences to the best by seed: 1.9, 2.0, 2.1, so t = 2 / sqrt(0.01 / 3) = 34.6 with 2 degrees
    # of freedom, p = 0.00083, times ten methods 0.0083. With a spread of 1: t = 3.46, p = 0.074.
    values = all_at(demo, 50.0)
    for others, bold in (((0.1, 0.0, -0.1), True), ((1.0, 0.0, -1.0), False)):
        values |= {(m, "ph2"): tuple(50.0 - d for d in others) for m in demo.methods}
        values["hybrid_ft", "ph2"] = (52.0, 52.0, 52.0)
        table = make_table(demo, finished(demo, values))
        assert table.cells["hybrid_ft", "ph2"].best is bold
        assert any("Holm" in note for note in table.notes) is bold


def test_no_bold_in_a_column_with_missing_seeds(demo):
    values = all_at(demo, 50.0)
    values["hybrid_ft", "ph2"] = (90.0, 90.1, None)
    values["diffusion_ft", "ph2"] = (80.0, 80.1, 80.2)
    table = make_table(demo, finished(demo, values))
    assert not any(cell.best for cell in table.cells.values() if cell.target == "ph2")


def test_the_published_table():
    cells = published()
    assert len(cells) == 55
    assert (cells["hybrid_ft", "dermis"].mean, cells["hybrid_ft", "dermis"].std) == (86.76, 1.04)
    assert (cells["i1k_deeplab", "dermis"].mean, cells["i1k_deeplab", "dermis"].std) == (
        73.89,
        None,
    )
    unknown = cells["i1k_segformer", "dermis"]
    assert (unknown.mean, unknown.std) == (None, None)
    assert all(cells[f"{row}_ledm", "ph2"].std is None for row in ("diffusion", "hybrid"))


def test_what_is_unknown_is_printed_as_such(paper):
    text = render_markdown(make_table(paper, {}))
    row = next(
        line for line in text.splitlines() if "SegFormer, ImageNet |" in line and "86" in line
    )
    assert row.split("|")[3].strip() == "n/a"
    row = next(
        line for line in text.splitlines() if "DeepLabV3, ImageNet |" in line and "82" in line
    )
    assert row.split("|")[3].strip() == "73.89 ± n/a"


def test_only_a_comparable_table_is_compared(demo, paper):
    assert make_table(paper, {}).comparable
    table = make_table(demo, {})
    assert not table.comparable
    assert any(n.startswith("not comparable with the paper: generated") for n in table.notes)
    assert "not for comparison" in render_markdown(table)


def test_generated_data_and_random_backbones_are_labelled_everywhere(demo, tmp_path):
    from rich.console import Console

    table = make_table(demo, finished(demo, all_at(demo, 50.0)))
    console = Console(record=True, width=140)
    console.print(render_terminal(table))
    files = {path.suffix: path for path in write_report(table, tmp_path)}
    texts = [console.export_text(), files[".md"].read_text(), files[".tex"].read_text()]
    for text in texts:
        assert "generated data" in text
        assert "-like" in text
        assert "not an ImageNet row" in text
        assert "†" in text or r"\dagger" in text
    rows = list(csv.DictReader(files[".csv"].open()))
    assert {row["generated"] for row in rows} == {"True"}
    assert {row["random_backbone"] for row in rows if "i1k" in row["method"]} == {"True"}
    assert {row["random_backbone"] for row in rows if "i1k" not in row["method"]} == {"False"}


def test_records_have_the_promised_fields(demo):
    records = to_records(make_table(demo, finished(demo, all_at(demo, 50.0))))
    assert len(records) == 55
    assert json.loads(json.dumps(records)) == records
    first = records[0]
    promised = ["method", "target", "metric", "values", "mean", "std", "n", "published"]
    assert list(first)[: len(promised)] == promised
    assert first["values"] == {"0": 49.9, "1": 50.0, "2": 50.1}
    assert first["keys"] == {
        str(seed): demo.table[Cell("scratch_adm", first["target"], seed)] for seed in demo.seeds
    }
    assert first["published"] == {"mean": 84.53, "std": 0.68}


def test_csv_and_parquet_hold_every_value(demo, tmp_path):
    values = all_at(demo, 50.0)
    values["hybrid_ft", "ph2"] = (88.0, None, 88.4)
    files = {p.suffix: p for p in write_report(make_table(demo, finished(demo, values)), tmp_path)}
    rows = list(csv.DictReader(files[".csv"].open()))
    stored = pq.read_table(files[".parquet"]).to_pylist()
    assert len(rows) == len(stored) == 165
    mine = [r for r in stored if (r["method"], r["target"]) == ("hybrid_ft", "ph2")]
    assert [r["value_percent"] for r in mine] == [88.0, None, 88.4]
    assert [r["n"] for r in mine] == [2, 2, 2]
    blank = [r for r in rows if r["value_percent"] == ""]
    assert [(r["method"], r["target"], r["seed"]) for r in blank] == [("hybrid_ft", "ph2", "1")]


def test_pandas_opens_the_parquet_file(demo, tmp_path):
    write_parquet(make_table(demo, finished(demo, all_at(demo, 50.0))), tmp_path / "table.parquet")
    frame = pd.read_parquet(tmp_path / "table.parquet")
    assert frame.groupby(["method", "target"]).value_percent.std().round(9).unique() == [0.1]


def test_polars_opens_the_parquet_file(demo, tmp_path):
    pl = pytest.importorskip("polars")
    write_parquet(make_table(demo, finished(demo, all_at(demo, 50.0))), tmp_path / "table.parquet")
    frame = pl.read_parquet(tmp_path / "table.parquet")
    spread = frame.group_by("method", "target").agg(pl.col("value_percent").std())
    assert spread["value_percent"].round(9).unique().to_list() == [0.1]


def test_a_column_with_a_unit_is_named_with_it(demo, tmp_path):
    write_parquet(make_table(demo, {}), tmp_path / "table.parquet")
    types = {each.name: str(each.type) for each in pq.read_schema(tmp_path / "table.parquet")}
    numbers = {name for name, kind in types.items() if kind == "double"}
    assert len(numbers) == 6
    assert all(name.endswith(("_percent", "_points")) for name in numbers)


def test_a_title_is_no_html_in_markdown(demo):
    table = replace(make_table(demo, {}), title="<b>x</b> & <script>alert(1)</script>")
    first = render_markdown(table).splitlines()[0]
    assert first == "## &lt;b&gt;x&lt;/b&gt; &amp; &lt;script&gt;alert(1)&lt;/script&gt;"


def test_latex_sees_no_command_of_ours():
    assert escaped("100 % of a_b & c") == r"100 \% of a\_b \& c"


def test_letters_that_the_fonts_of_latex_lack_are_named():
    assert escaped("Zoë: λ, ✓, \x1b, e\u0301") == r"Zoë: $\lambda$, U+2713, U+001B, é"


def test_the_latex_table_is_well_formed(demo):
    text = render_latex(make_table(demo, finished(demo, all_at(demo, 50.0))))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in rows} == {5}
    assert text.count(r"\begin{") == text.count(r"\end{")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_compiles_what_is_written(demo, paper, tmp_path):
    everything = " ".join(map(chr, range(0x20, 0x180))) + " λ → ∞ 中"
    failed = {demo.table[Cell("hybrid_ft", "ph2", 1)]: everything}
    partial = make_table(demo, finished(demo, {("hybrid_ft", "ph2"): (88.0, None, 88.4)}), failed)
    named = replace(partial, title=f"[{everything}")
    whole = make_table(paper, finished(paper, all_at(paper, 50.0)))
    for name, table in (("named", named), ("whole", whole)):
        (tmp_path / f"{name}.tex").write_text(render_latex(table))
        # It stops at the first error, and its status says so.
        command = ["pdflatex", "-interaction=batchmode", "-halt-on-error", f"{name}.tex"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        assert "Overfull" not in (tmp_path / f"{name}.log").read_text(errors="replace")


def test_a_comparable_table_has_its_verdicts_in_latex(paper):
    text = render_latex(make_table(paper, finished(paper, {("hybrid_ft", "ph2"): (91.0,) * 3})))
    (line,) = re.findall(r"^Hybrid, fine-tuning & higher.*$", text, re.MULTILINE)
    assert line == r"Hybrid, fine-tuning & higher & missing & missing & missing & missing \\"
    assert "the 95 \\% interval excludes 0" in text
