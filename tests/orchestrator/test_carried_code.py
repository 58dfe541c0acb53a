"""A method of the user's own, carried to workers by an object store: the files that its hash is of."""

from orchestrator.store.home.mirror import Mirror
from trainables.code import method_hash
from trainables.node_cache import NodeCache
from trainables.storage import Storage

METHOD = "mine:Class"
FILES = {
    "mine.py": "from parts.inner import f\nimport helper\n",
    "helper.py": "x = 1\n",
    "parts/__init__.py": "",
    "parts/inner.py": "import parts.deep.last\n",
    "parts/deep/last.py": "f = 1\n",
}


def written(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def carried(tmp_path, folder):
    """Return the name that a folder is carried by, and where a worker has it."""
    store = tmp_path / "store"
    store.mkdir(exist_ok=True)
    name = Mirror(tmp_path / "mirror", str(store)).carry_code(folder)
    return name, NodeCache(tmp_path / "cache", Storage(str(store))).code(name)


def test_a_worker_has_the_packages_of_a_method_too_and_so_its_hash(tmp_path):
    study = written(tmp_path / "study", {**FILES, "images/notes.txt": "not code"})
    _, there = carried(tmp_path, study)
    assert method_hash(METHOD, there) == method_hash(METHOD, study)
    assert {p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file()} == set(FILES)


def test_the_same_lines_in_files_of_other_names_are_other_code(tmp_path):
    first = written(tmp_path / "a" / "study", {"mine.py": "import one\n", "one.py": "x = 1\n"})
    second = written(tmp_path / "b" / "study", {"mine.py": "import one\n", "two.py": "x = 1\n"})
    (name, _), (other, there) = (carried(tmp_path, folder) for folder in (first, second))
    assert name != other
    assert method_hash(METHOD, there) == method_hash(METHOD, second)
