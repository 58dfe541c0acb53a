"""Our packages are imported from one place, whatever the working directory or `PYTHONPATH` offers.

In the command itself, and in Ray's workers, to which this module is sent as it is (`worker`): nothing
of ours may be imported here.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class Finder:
    """Finds each of some packages in its own place, before Python looks along `sys.path`."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """Take the folder, or the zip file, that holds each package, by the package's name."""
        self.places = dict(places)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return where a package is; None for all others, and for those that are not there."""
        if path is not None or fullname not in self.places:
            return None
        return PathFinder.find_spec(fullname, [self.places[fullname]], target)


def pin(places: Mapping[str, str]) -> None:
    """Have packages imported from their places from now on, as far as they are there.

    On another machine they may not be: then it stays with what is installed. What was imported from
    elsewhere before, say by a `.pth` file, is forgotten.
    """
    finder = Finder(places)
    found = {name: spec for name in places if (spec := finder.find_spec(name)) is not None}
    for name, spec in found.items():
        imported = sys.modules.get(name)
        if imported is not None and getattr(imported, "__file__", None) != spec.origin:
            for each in [m for m in list(sys.modules) if m == name or m.startswith(f"{name}.")]:
                del sys.modules[each]
    sys.meta_path.insert(0, Finder({name: places[name] for name in found}))
