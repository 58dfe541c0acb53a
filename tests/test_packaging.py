"""The wheel, installed where nothing of this repository is: its command, its files, a small sweep."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATIENCE_S = 600
BLOCKED = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Missing())
from orchestrator.__main__ import main
missing, sys.argv = sys.argv[1], ["hdsweep", *sys.argv[2:]]
main()
"""


def ran(*command, exit_code=0, **options):
    done = subprocess.run(
        [*map(str, command)],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        **options,
    )
    assert done.returncode == exit_code, done.stdout[-1000:] + done.stderr[-3000:]
    return done


@pytest.mark.parametrize("package", ["rich", "typer", "pydantic", "packaging", "ray", "yaml"])
def test_doctor_says_in_words_what_is_not_installed(package, tmp_path):
    # 1 is what it ends with if it can look and finds something to be mended.
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, package, "doctor", "--home", str(tmp_path / "home")],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert "Traceback" not in done.stderr
    if done.returncode == 2:
        assert f"error: the Python package `{package}` is not installed" in done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # What git knows, and what is new: a build leaves folders behind.
    names = ran("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(("docs/", "tests/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = ("-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", folder, source)
    ran(sys.executable, *build)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_has_what_its_readme_speaks_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        about = archive.read(metadata).decode()
    for package in ("orchestrator", "trainables", "search_spaces"):
        assert f"{package}/py.typed" in names
    for file in ("on_prem.yaml", "aws.yaml", "gcp.yaml", "slurm/hdsweep.sbatch"):
        assert any(name.endswith(f"share/hdsweep/cluster/{file}") for name in names), file
    assert "Project-URL: Paper" in about
    assert "Classifier: Typing :: Typed" in about
    # A home's database is of the schema of one major version of MLflow.
    assert "Requires-Dist: mlflow<4,>=3.17.2" in about


@pytest.mark.slow
def test_the_wheel_runs_in_a_fresh_environment(wheel, tmp_path):
    place = tmp_path / "fresh"
    ran(sys.executable, "-m", "venv", place)
    python = place / "bin/python"
    ran(python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", wheel)
    # What it needs is read from where it is installed already; hdsweep itself is the wheel's.
    site = Path(
        ran(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    )
    (site / "needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("PYTHON", "HDSWEEP"))}
    about = {"cwd": empty, "env": clean}
    found = ran(python, "-c", "import orchestrator; print(orchestrator.__file__)", **about).stdout
    assert Path(found.strip()).is_relative_to(place)
    asked = ("table2", "--scale", "smoke", "--methods", "scratch_adm", "--targets", "ph2")
    home = ("--home", tmp_path / "home")
    command = place / "bin/hdsweep"
    assert "scratch_adm" in ran(command, "plan", *asked, *home, **about).stdout
    summary = ran(command, "run", *asked, *home, "--json", **about).stdout
    assert json.loads(summary.splitlines()[-1])["finished"] == 3
    assert "scratch_adm" in ran(command, "report", *asked, *home, **about).stdout
    assert list(empty.iterdir()) == []
