"""The hash of the code: of what is installed in any way, and of what a process has really imported."""

import compileall
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from trainables.code import Proof, code_hash, manifest, method_hash

ROOT = Path(__file__).parents[2]
TELL = "import json, trainables.code as c; print(json.dumps([c.code_hash(), dict(c.manifest())]))"


def told_by(place, code=TELL):
    """Return what a process says that imports the package from a place and from nowhere else."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(place)},
        cwd="/",
    )
    return json.loads(done.stdout)


@pytest.fixture
def copy(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "trainables", tmp_path / "trainables", ignore=ignored)
    return tmp_path


def write(folder, files):
    """Write texts by name, one folder deep at most."""
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def test_each_source_is_hashed_as_sha256sum_would():
    content = (ROOT / "trainables/losses/hybrid.py").read_bytes()
    assert manifest()["losses/hybrid.py"] == hashlib.sha256(content).hexdigest()[:12]
    sources = {
        p.relative_to(ROOT / "trainables").as_posix() for p in ROOT.glob("trainables/**/*.py")
    }
    assert sources <= set(manifest())


def test_a_copy_elsewhere_has_the_same_hash_and_one_changed_byte_another(copy):
    assert told_by(copy)[0] == code_hash()
    (copy / "trainables/.#lock.py").write_text("what an editor leaves")
    (copy / "trainables/loop.py~").write_text("what an editor leaves")
    assert told_by(copy)[0] == code_hash()
    with (copy / "trainables/losses/hybrid.py").open("a") as file:
        file.write("\n")
    changed, files = told_by(copy)
    assert changed != code_hash()
    assert [name for name in files if files[name] != manifest()[name]] == ["losses/hybrid.py"]


def test_a_zip_has_the_same_hash(copy, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in sorted(copy.glob("trainables/**/*")):
            archive.write(file, file.relative_to(copy))
    assert told_by(tmp_path / "all.zip")[0] == code_hash()


def test_compiled_only_the_hash_does_not_depend_on_when(copy):
    def compiled(name, seconds):
        place = copy / name
        shutil.copytree(copy / "trainables", place / "trainables")
        for source in place.glob("**/*.py"):
            os.utime(source, (seconds, seconds))
        compileall.compile_dir(
            place, quiet=2, legacy=True, stripdir=str(place), prependdir="/same"
        )
        for source in place.glob("**/*.py"):
            source.unlink()
        return told_by(place)

    (first, files), (second, _) = compiled("one", 1e9), compiled("two", 1.1e9)
    assert first == second
    assert "losses/hybrid.pyc" in files
    assert first != code_hash()  # It cannot be known to be the same.


IMPORTED = """
import json
import trainables.code as c
import trainables.keys
proof = c.Proof(c.manifest())
proof.check()
with open(c.__file__.replace("code.py", "{changed}"), "a") as file:
    file.write("\\n")
import trainables.history
try:
    proof.check()
except c.OtherCodeError as error:
    print(json.dumps(str(error)))
else:
    print(json.dumps(None))
"""


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        # Imported before it was changed: what runs is what the other process has.
        ("keys.py", None),
        # Not imported at all.
        ("energy.py", None),
        ("history.py", "trainables/history.py is not the driver's"),
    ],
)
def test_only_what_is_imported_after_a_change_is_other_code(copy, changed, told):
    assert told_by(copy, IMPORTED.replace("{changed}", changed)) == told


def test_the_files_of_a_method_are_those_that_it_imports_from_beside_it(tmp_path):
    files = {
        "mine.py": "import os, helper\nfrom parts.inner import f\n",
        "helper.py": "def late():\n    import deeper\n",
        "deeper.py": "import helper\n",
        "parts/__init__.py": "",
        "parts/inner.py": "",
        "unrelated.py": "import mine\n",
    }
    write(tmp_path, files)
    first = method_hash("mine:Class@12345678", tmp_path)
    assert first == method_hash("mine:Class", tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}# changed\n")
        assert (method_hash("mine:Class", tmp_path) == first) == (name == "unrelated.py"), name
        (tmp_path / name).write_text(text)
    assert method_hash("installed:Class", tmp_path) is None


@pytest.mark.parametrize(
    ("method", "file", "counts"),
    [
        # A checkout of ours, or somebody's folder that is called so: workers have ours anyway.
        ("import trainables.loop", "trainables/__init__.py", False),
        ("from orchestrator import home", "orchestrator/store/home/home.py", False),
        ("import search_spaces", "search_spaces.py", False),
        # Packages without an __init__.py, and what is imported in them relatively.
        ("import parts.inner", "parts/inner.py", True),
        ("import parts.inner", "parts/deep/last.py", True),
        ("from parts import inner", "parts/beside.py", True),
        ("import parts.inner", "parts/images/notes.txt", False),
        ("import parts.inner", "parts/.#inner.py", False),
        # A folder that has the name of what is installed: that comes first.
        ("import numpy", "numpy/extra.py", False),
        ("import json", "json/extra.py", False),
        ("import sys", "sys/extra.py", False),
        ("import images.x.y", "images/1.py", True),
        # Named in a call.
        ("from importlib import import_module\nimport_module('late')", "late.py", True),
        ("import importlib\nm = importlib.import_module('parts.inner')", "parts/inner.py", True),
        ("late = __import__('late')", "late.py", True),
        ("from importlib import import_module\nimport_module('.late', 'x')", "late.py", False),
        ("from importlib import import_module\nimport_module(late)", "late.py", False),
    ],
)
def test_which_files_beside_a_method_are_part_of_its_hash(method, file, counts, tmp_path):
    (tmp_path / "mine.py").write_text(method)
    place = tmp_path / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("from . import beside\n")
    before = method_hash("mine:Class", tmp_path)
    place.write_text("from . import beside  # changed\n")
    assert (method_hash("mine:Class", tmp_path) != before) == counts


def test_relative_imports_of_a_package_are_part_of_it_and_what_it_imports_too(tmp_path):
    files = {
        "mine.py": "import parts\n",
        "parts/__init__.py": "from .inner import f\n",
        "parts/inner.py": "from ..parts import other\nimport helper\n",
        "parts/other.py": "",
        "helper.py": "",
    }
    write(tmp_path, files)
    first = method_hash("mine:Class", tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}# changed\n")
        assert method_hash("mine:Class", tmp_path) != first, name
        (tmp_path / name).write_text(text)


def test_what_an_editor_leaves_in_a_package_is_no_part_of_a_method(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "mine.py").write_text("import parts\n")
    (tmp_path / "parts" / "__init__.py").touch()
    before = method_hash("mine:Class", tmp_path)
    (tmp_path / "parts" / ".#__init__.py").symlink_to("somebody@somewhere.4711:1")
    (tmp_path / "parts" / ".__init__.py.swp.py").touch()
    assert method_hash("mine:Class", tmp_path) == before


def test_what_other_threads_import_while_it_is_looked_at_disturbs_nothing():
    proof, over = Proof(manifest()), threading.Event()
    proof.check()

    def imports():
        while not over.is_set():
            for number in range(100):
                sys.modules[f"imported_meanwhile_{number}"] = sys
            for number in range(100):
                del sys.modules[f"imported_meanwhile_{number}"]

    thread, before = threading.Thread(target=imports), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(200):
            proof.check()
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(before)
