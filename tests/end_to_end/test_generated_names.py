"""No output that people read calls generated images by the name of real ones."""

import html
import re

import pytest

from orchestrator.plan.plan import load_plan
from orchestrator.store.home.home import Home
from orchestrator.store.store import Store
from orchestrator.sweep.events import Event
from orchestrator.sweep.watch.live_table import render
from orchestrator.sweep.watch.progress import SweepView
from tests.command_line import hdsweep
from trainables.data.datasets import all_datasets

ASKED = ("--scale", "smoke", "--methods", "scratch_adm,hybrid_ft", "--seeds", "0")
REAL = {
    each
    for info in all_datasets().values()
    if not info.generated
    for each in (info.name, info.title)
}
# A name is a word of its own that "-like" does not follow.
ALONE = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, sorted(REAL, key=len)))})(?![\w-])")
MEANT = (
    r"### As published.*?(?=\n## |\Z)",  # The paper's own numbers are on real images.
    r"(?s)<details><summary>As published.*?</details>",
    r"<h2 id=\"claims\">.*?(?=<h2 )",  # And so are its claims.
    r"(?m)^%[^\n]*",  # The text of the study file, quoted.
    r"\[(sources|targets)\.\w+\]",  # A table of a study file.
    r"\w+_\w+/\w+/\d",  # A cell as `hdsweep reproduce` takes it.
)


def words(text):
    for each in MEANT:
        text = re.sub(each, "", text, flags=re.DOTALL)
    return text


def of_page(text):
    # A <pre> holds what the code differs by from its commit.
    text = re.sub(r"(?s)<(style|pre)>.*?</\1>|data:image/[^\"]*", "", words(text))
    # Attributes are read too: titles, alternative texts.
    return html.unescape(re.sub(r"</?[a-zA-Z][\w-]*|>", " ", text))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Return the home of a small sweep on generated data, and all that its verbs print."""
    home = tmp_path_factory.mktemp("generated") / "home"
    said = {"run": hdsweep("run", "table2", *ASKED, "--progress", "plain", home=home)}
    for verb in (("plan", "--all"), ("status",), ("report",)):
        said[verb[0]] = hdsweep(verb[0], "table2", *ASKED, *verb[1:], home=home)
    said["compare"] = hdsweep("compare", home, home)
    return Home(home), {verb: out + err for verb, (out, err) in said.items()}


def found(text):
    return sorted(set(ALONE.findall(text)))


def test_the_pattern_finds_real_names_only():
    assert found("hybrid_ft ph2 seed 1, on PH2 and NIH (Chest)") == ["NIH", "PH2", "ph2"]
    assert found("hybrid_ft ph2-like seed 1, PH2-like") == []


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["run", "plan", "status", "report", "compare"])
def test_no_verb_prints_a_real_name(swept, verb):
    assert found(words(swept[1][verb])) == []
    assert verb == "status" or "-like" in swept[1][verb]


@pytest.mark.slow
def test_no_file_of_a_report_has_a_real_name(swept):
    files = [
        path
        for root in (swept[0].path / "reports", *swept[0].artifacts.glob("*/artifacts/table"))
        for path in root.rglob("*")
        if path.suffix in (".md", ".tex", ".svg", ".html")
    ]
    assert {path.suffix for path in files} == {".md", ".tex", ".svg", ".html"}
    bad = {}
    for path in files:
        text = path.read_text()
        seen = found(of_page(text) if path.suffix in (".html", ".svg") else words(text))
        if seen:
            bad[path.name] = seen
    assert bad == {}


@pytest.mark.slow
def test_no_run_in_mlflow_is_called_by_a_real_name(swept):
    store = Store.read(swept[0])
    runs = store._client.search_runs(
        [store._client.get_experiment_by_name("hdsweep").experiment_id]
    )
    shown = [f"{r.info.run_name}\n{r.data.tags.get('mlflow.note.content', '')}" for r in runs]
    assert len(shown) > 13
    assert found("\n".join(map(words, shown))) == []


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_live_view_has_a_real_name(width):
    plan = load_plan("table2", scale="smoke")
    view = SweepView(plan, {}, started=0.0)
    for run in plan.runs[:20]:
        view.take(Event(kind="started", run=run, time=0.0, attempt=1))
    assert found(render(view, now=1.0, width=width, height=50).plain) == []
