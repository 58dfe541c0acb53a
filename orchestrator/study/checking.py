"""From what a user wrote (TOML files, flags) to checked values, with errors that say where.

Everything wrong is an `InputError` of one line: the field by its path, the file or flag it stands
in, and, for a name that does not exist, the nearest one that does. A key that is not known is an
error and never ignored: it would be a setting that silently did nothing.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from orchestrator.errors import InputError, UnknownNameError
from trainables.user_text import UserTextError, read_user_text

Tree = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)
Loc = tuple[int | str, ...]

# Constants and what the planner fills in: part of a run's value, nothing that a user writes.
NOT_WRITTEN = frozenset({"family", "kind", "backbone_sha256"})

LARGEST_FILE = 2**20  # Bytes of TOML; a study has a few thousand.
LONGEST_SHOWN = 60  # Characters of a wrong value that an error repeats.


@dataclass(frozen=True)
class Place:
    """Where a part of the input stands: a file, or a flag, and the tables above it."""

    source: str
    tables: tuple[str, ...] = ()
    is_file: bool = True

    def within(self, *tables: str) -> "Place":
        """Return the place of a table inside this one; a flag is already as narrow as it gets."""
        return Place(self.source, (*self.tables, *tables)) if self.is_file else self

    def __str__(self) -> str:
        return f"{self.source}: [{'.'.join(self.tables)}]" if self.tables else self.source


def read_text(path: Path, *, what: str) -> str:
    """Return the text of a file that a user wrote.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        return read_user_text(path, largest=LARGEST_FILE)
    except UserTextError as error:
        raise InputError(f"{what} {path} is {error}") from error
    except OSError as error:
        raise InputError(f"cannot read {what} {path}: {error.strerror}") from error


def parse_toml(text: str, path: Path, *, what: str) -> Tree:
    """Return what a text says in TOML.

    Args:
        path: file that it was read from, for the message.

    Raises:
        InputError: if it is not TOML; the message has the line.
    """
    try:
        tree = tomllib.loads(text)
        flat(tree)
    except RecursionError as error:
        raise InputError(f"{what} {path} is nested more deeply than any setting") from error
    except ValueError as error:  # A number of thousands of digits is none of TOML's own errors.
        raise InputError(f"{what} {path} is not TOML: {error}") from error
    return tree


def find_file(name: str, folder: Path, *, kind: str, beside: Path | None = None) -> Path:
    """Return the TOML file that `name` means: one of ours by its stem, else a path to a `.toml`.

    Args:
        beside: folder that relative paths start from; the working directory by default.

    Raises:
        UnknownNameError: if it is neither.
        InputError: if there is no file at that path.
    """
    if name.endswith(".toml"):
        path = (beside or Path()) / name
        if not path.is_file():
            raise InputError(f"there is no {kind} file at {path}")
        return path
    ours = {path.stem: path for path in folder.glob("*.toml")}
    if name not in ours:
        raise UnknownNameError(kind, name, ours, where=f"--{kind}" if kind == "scale" else "STUDY")
    return ours[name]


def check(model: type[Model], raw: Tree, place: Place) -> Model:
    """Return `raw` as a value of `model`.

    Strictly: `updates = true` or `updates = "300"` are mistakes. The text "none" stands for no
    value, which TOML cannot write.

    Raises:
        UnknownNameError: if a key does not exist.
        InputError: if a value is not allowed there, or a required key is missing.
    """
    _refuse_what_is_not_written(model, raw, place)
    text = _as_json(raw, place)
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        # Unknown keys first: a misspelt key is also a missing one, and only the former helps.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise _explained(model, errors[0], place) from error


def _as_json(raw: Tree, place: Place) -> str:
    """Return a tree as JSON, in which a number has as many digits as Python prints."""
    for path, value in flat(raw).items():
        try:
            json.dumps(value, default=str)
        except ValueError as error:
            raise InputError(f"`{path}` has too many digits, in {place}") from error
    return json.dumps(_with_none(raw), default=str)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a tree by their dotted paths."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        leaves |= flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return leaves


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """Return `base` with the leaves of `changes` in the place of its own; lists are leaves."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both and below is not None else value
    return merged


def keys_of(model: type[BaseModel]) -> list[str]:
    """Return the keys that a user can write in a table of this kind."""
    return [name for name in model.model_fields if name not in NOT_WRITTEN]


def _with_none(raw: Any) -> Any:
    if isinstance(raw, Mapping):
        return {key: _with_none(value) for key, value in raw.items()}
    return None if raw == "none" else raw


def _refuse_what_is_not_written(model: type[BaseModel], raw: Tree, place: Place) -> None:
    for path in flat(raw):
        *tables, key = path.split(".")
        at = _model_at(model, tuple(tables))
        if key in NOT_WRITTEN and at is not None:
            raise UnknownNameError("key", key, keys_of(at), where=str(place.within(*tables)))


def _explained(model: type[BaseModel], error: Any, place: Place) -> InputError:
    loc: Loc = error["loc"]
    tables, key = [str(part) for part in loc[:-1]], str(loc[-1])
    if isinstance(loc[-1], int):  # An element of a list: name the list.
        *tables, key = tables
    where = str(place.within(*tables))
    if error["type"] == "extra_forbidden":
        at = _model_at(model, loc[:-1])
        return UnknownNameError("key", key, keys_of(at) if at else (), where=where)
    if error["type"] == "missing":
        return InputError(f"`{key}` is missing in {where}")
    problem = error["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return InputError(f"`{key}` {problem}, got {_shown(error['input'])}, in {where}")


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _model_at(model: type[BaseModel], loc: Iterable[int | str]) -> type[BaseModel] | None:
    """Return the model of the table at `loc`, or None where there is no model, only values."""
    at: Any = model
    for part in loc:
        if isinstance(at, type) and issubclass(at, BaseModel):
            field = at.model_fields.get(str(part))
            at = field.annotation if field else None
        elif get_origin(at) is dict:
            at = get_args(at)[1]
    return at if isinstance(at, type) and issubclass(at, BaseModel) else None
