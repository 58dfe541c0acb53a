"""How large everything is: a scale is a TOML file of differences from the paper's settings.

Ours are named (`paper`, `demo`, `smoke`); any other is a path to a `.toml` file with the tables of
`orchestrator.study.settings.Settings` and, if wanted, a `title`.
"""

from dataclasses import dataclass
from pathlib import Path

from orchestrator.study.checking import Place, check, find_file, merge, parse_toml, read_text
from orchestrator.study.settings import DEFAULTS, Layer, Settings, layer

FOLDER = Path(__file__).parent / "scales"


class _ScaleFile(Settings):
    title: str = ""


@dataclass(frozen=True)
class Scale:
    """A named layer of settings."""

    name: str
    title: str
    layer: Layer
    text: str = ""
    """Content of its file."""


def scale_names() -> tuple[str, ...]:
    """Return the names of our scales."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_scale(name: str, *, beside: Path | None = None) -> Scale:
    """Read a scale by its name or path.

    Args:
        beside: folder that a relative path starts from; the working directory by default.

    Raises:
        InputError: if there is no such scale, or its file is wrong; the message says where.
    """
    path = find_file(name, FOLDER, kind="scale", beside=beside)
    return scale_of(read_text(path, what="scale"), path)


def scale_of(text: str, path: Path) -> Scale:
    """Return the scale that a file with this text is.

    Args:
        path: of the file, which need not be there any more.

    Raises:
        InputError: if the text is wrong; the message says where.
    """
    raw = parse_toml(text, path, what="scale")
    place = Place(path.name if path.parent == FOLDER else str(path))
    file = check(_ScaleFile, merge(DEFAULTS, raw), place)
    tree = {key: value for key, value in raw.items() if key != "title"}
    return Scale(path.stem, file.title or path.stem, layer(place, tree), text)
