"""Which code runs here, so that two processes can prove to each other that they run the same.

The code is what lies on disk, by file; a process that is asked later than it imported a file may run
what the file was before. `Proof` therefore looks at what was imported right after it was.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.abc import Traversable
from importlib.machinery import PathFinder
from importlib.resources import files
from pathlib import Path

PACKAGE = __name__.partition(".")[0]
OURS = (PACKAGE, "orchestrator", "search_spaces")
"""Packages that are imported from where the driver has them, never from beside a method."""
SUFFIXES = (".py", ".pyc", ".so", ".toml")
HEX_DIGITS = 12
PYC_HEADER_BYTES = 16  # When and from what it was compiled: no part of what it does.


class OtherCodeError(Exception):
    """This process runs other code than the one that asked it to."""


@cache
def manifest() -> Mapping[str, str]:
    """Return a hash of each file of this package by its path in it, as when first asked."""
    return {name: _hash(file.read_bytes(), name) for name, file in _files(files(PACKAGE))}


@cache
def code_hash() -> str:
    """Return a hash of this package, as when first asked: 12 hexadecimal digits."""
    return _joint(manifest())


def method_hash(task: str, folder: Path) -> str | None:
    """Return a hash of the files that a task of the user's own is made of; None for installed ones.

    Its module, and the modules beside it that one of them imports: 12 hexadecimal digits. Of a package,
    with `__init__.py` or without, all that is in it, so relative imports are part of it.

    Args:
        task: `module:Class`, with or without the hash of the module's file.
        folder: where the module lies.
    """
    found = files_beside([task.partition(":")[0]], folder)
    hashes = {name: _hash(content, name) for name, content in found.items()}
    return _joint(hashes) if hashes else None


def files_beside(modules: Iterable[str], folder: Path) -> dict[str, bytes]:
    """Return what modules are made of, and those beside them that one of them imports.

    Contents of files in `folder` by their paths below it, with `/`.
    """
    found: dict[str, bytes] = {}
    waiting = list(modules)
    while waiting:
        for file in _beside(waiting.pop(), folder):
            relative = file.relative_to(folder).as_posix()
            if relative not in found:
                found[relative] = file.read_bytes()
                waiting += _imported(found[relative])
    return found


class Proof:
    """Shows that what this process has imported of this package is what another process has."""

    def __init__(self, theirs: Mapping[str, str]) -> None:
        """Take the `manifest` of the other process."""
        self._theirs, self._proven = theirs, set[str]()

    def check(self) -> None:
        """Look at what was imported since the last time.

        Raises:
            OtherCodeError: if a file is not the same, named in one line.
        """
        # A copy: threads that read ahead or write checkpoints may import meanwhile.
        loaded = [name for name in list(sys.modules) if name.split(".", 1)[0] == PACKAGE]
        for name in sorted(set(loaded) - self._proven):
            path = _path_of(name)
            if path is not None and _now(path) != self._theirs.get(path):
                raise OtherCodeError(f"{PACKAGE}/{path} is not the driver's")
            self._proven.add(name)


def _files(folder: Traversable, above: str = "") -> Iterator[tuple[str, Traversable]]:
    for each in sorted(folder.iterdir(), key=lambda each: each.name):
        if each.name.startswith((".", "__pycache__")):
            continue
        if each.is_dir():
            yield from _files(each, f"{above}{each.name}/")
        elif each.name.endswith(SUFFIXES) and each.is_file():
            yield above + each.name, each


def _path_of(module: str) -> str | None:
    """Return the file of an imported module, below the package; None if it has none."""
    origin = getattr(getattr(sys.modules.get(module), "__spec__", None), "origin", None)
    if origin is None:
        return None
    parts = module.split(".")[1:]
    name = Path(origin).name
    is_package = name.partition(".")[0] == "__init__"
    return "/".join([*(parts if is_package else parts[:-1]), name])


def _now(path: str) -> str | None:
    try:
        return _hash(files(PACKAGE).joinpath(*path.split("/")).read_bytes(), path)
    except OSError:
        return None


def _hash(content: bytes, name: str) -> str:
    content = content[PYC_HEADER_BYTES:] if name.endswith(".pyc") else content
    return hashlib.sha256(content).hexdigest()[:HEX_DIGITS]


def _joint(hashes: Mapping[str, str]) -> str:
    lines = "".join(f"{name} {hashes[name]}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()[:HEX_DIGITS]


def _beside(module: str, folder: Path) -> Sequence[Path]:
    """Return the files in `folder` that importing a module may run, in Python's order of preference."""
    top = module.split(".", 1)[0]
    if top in OURS:
        return []
    if (folder / top / "__init__.py").is_file():
        return _sources(folder / top)
    if (file := folder / f"{top}.py").is_file():
        return [file]
    # A namespace package: any folder, but only where nothing that is installed has its name.
    is_namespace = (
        top.isidentifier() and (folder / top).is_dir() and not _is_installed(top, folder)
    )
    return _sources(folder / top) if is_namespace else []


def _sources(package: Path) -> Sequence[Path]:
    # No hidden ones: an editor's lock beside a file that is open in it leads nowhere.
    found = package.rglob("*.py")
    return sorted(file for file in found if not file.name.startswith(".") and file.is_file())


def _is_installed(name: str, folder: Path) -> bool:
    """Whether a module is found elsewhere than in a folder, as one that has a file or is built in."""
    places = [place for place in sys.path if Path(place or ".").resolve() != folder.resolve()]
    spec = PathFinder.find_spec(name, places)
    return name in sys.builtin_module_names or (spec is not None and spec.origin is not None)


def _imported(source: bytes) -> Iterator[str]:
    """Yield the modules that a source names in its imports, calls too; none if it cannot be read."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__"):
            yield from _absolute_names(node.args[:1])


def _called(function: ast.expr) -> str:
    return str(getattr(function, "attr", getattr(function, "id", "")))


def _absolute_names(arguments: Iterable[ast.expr]) -> Iterator[str]:
    for each in arguments:
        if (
            isinstance(each, ast.Constant)
            and isinstance(each.value, str)
            and each.value[:1] != "."
        ):
            yield each.value
