"""Who may import whom, as far as only running the code shows it."""

import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import orchestrator
import trainables

ROOT = Path(__file__).parents[1]


def imported(code):
    """Return the top-level modules that a fresh interpreter holds after `code`."""
    script = f"{code}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_planning_imports_neither_torch_nor_ray_nor_mlflow():
    code = (
        "from orchestrator import cli\n"
        "from orchestrator.plan import plan\n"
        "from trainables import config, methods, registry\n"
        "from trainables.data import datasets\n"
        "methods.all_methods(), datasets.all_datasets()"
    )
    assert not imported(code) & {"torch", "ray", "mlflow", "numpy", "pandas"}


def test_what_only_reads_a_home_does_not_wait_for_mlflow(tmp_path):
    code = (
        "from pathlib import Path\n"
        "from orchestrator.store.home.home import open_home\n"
        "from orchestrator.plan.plan import load_plan\n"
        "from orchestrator.store.store import Store\n"
        f"home = open_home(Path({str(tmp_path)!r}))\n"
    )
    write = "with Store.open(home) as store: store.begin_sweep(load_plan('table2', scale='smoke'))"
    assert "mlflow" in imported(code + write)
    read = (
        "from orchestrator.commands import results, sweep\n"
        "from orchestrator.report import evidence\n"
        "from orchestrator.verbs import run, status\n"
        "assert Store.read(home).tables() == {}"
    )
    assert not imported(code + read) & {"torch", "ray", "mlflow", "pandas"}


def test_a_gpu_machine_with_only_pytorch_can_train():
    code = (
        "from trainables import execute, registry\n"
        "for task in registry.TASKS: registry.load(task)\n"
        "from trainables.networks import deeplab, segformer"
    )
    assert not imported(code) & {"ray", "mlflow", "optuna", "typer"}


@pytest.mark.parametrize("package", [orchestrator, trainables])
def test_the_generic_package_names_are_ours(package):
    assert Path(package.__file__).is_relative_to(ROOT)


def test_no_file_imports_itself_in_a_circle_not_even_inside_functions():
    graph = grimp.build_graph("orchestrator", "search_spaces", "trainables", cache_dir=None)
    imports = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    assert len(imports) > 200
    TopologicalSorter(imports).prepare()  # Names the files of a circle.
