"""A home that a refused command made is not left behind."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.store.home.home import Home, open_home


@contextlib.contextmanager
def no_trace_if_refused(path: Path, *, adopt: bool = False) -> Iterator[Home]:
    """Open a home; if what is asked of it is refused, and it was not there before, it goes again.

    Not if there is anything in it by then, such as data that was generated meanwhile.

    Args:
        adopt: take a folder that has other things in it.

    Raises:
        InputError: if the home cannot be used.
    """
    home = Home(path.expanduser().absolute())
    made = [each for each in (home.path, *home.path.parents) if not each.exists()]
    try:
        yield open_home(path, adopt=adopt)
    except InputError:
        if made:
            with contextlib.suppress(OSError):
                _remove_unused(home, made)
        raise


def _remove_unused(home: Home, made: list[Path]) -> None:
    """Remove the folders of a home in which there is nothing yet, and those above that were made for it.

    Raises:
        OSError: if there is something in one; what is above it stays.
    """
    notes = {home.path / "VERSION", home.tracking_file}
    inside = sorted(home.path.rglob("*"), reverse=True)
    if any(not each.is_dir() for each in inside if each not in notes):
        return
    for each in inside:
        each.rmdir() if each.is_dir() else each.unlink()
    for each in made:
        each.rmdir()
