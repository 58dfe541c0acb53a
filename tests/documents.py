"""The documents of `--json` held to docs/json.md, which is the only place that says what is in them."""

import json
import re
from functools import cache
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs" / "json.md"
ROW = re.compile(r"^\| `(?P<path>[^`]+)` \| (?P<type>[^|]+?) \|")
TYPES = {
    "text": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "list": list,
    "object": dict,
    "any": object,
}


@cache
def described():
    """Return the type of every field by its path, for each schema and part."""
    found, fields = {}, {}
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            fields = found[line.removeprefix("## ").removeprefix("Part: ")] = {}
        elif row := ROW.match(line):
            assert row["path"] not in fields, f"{row['path']} is described twice"
            fields[row["path"]] = row["type"]
    return found


def document(text):
    """Return the one document in a text, and expect it to be as described, no more and no less."""
    value = json.loads(text)
    assert value.pop("version") == 1
    hold(value, described()[value["schema"]], {"schema"})
    return value


def hold(value, fields, besides=frozenset()):
    """Expect an object to have the fields that are described, and no others."""
    rest = {name: each for name, each in value.items() if name not in besides}
    _hold_object(rest, fields, "")


def _hold_object(value, fields, prefix):
    own = {path for path in fields if _is_below(path, prefix)}
    wildcard = f"{prefix}*"
    below = any(path.startswith(wildcard) for path in fields)
    for name, each in value.items():
        path = f"{prefix}{name}"
        if path not in own and below:
            path = wildcard
        assert path in fields or below, f"`{path}` is not described"
        _hold(each, fields, path)
    missing = {
        path
        for path in own
        if path.removeprefix(prefix) not in value
        and "*" not in path.removeprefix(prefix)
        and "optional" not in fields[path]
    }
    assert not missing, f"described, but not there: {sorted(missing)}"


def _is_below(path, prefix):
    return path.startswith(prefix) and not re.search(r"[.\[]", path.removeprefix(prefix))


def _hold(value, fields, path):
    kind, _, _ = fields.get(path, "object").replace(" or null", "?").partition(" ")
    if value is None:
        assert kind.endswith("?") or kind == "any", f"`{path}` is null"
        return
    kind = kind.removesuffix("?")
    if kind in described():
        hold(value, described()[kind])
        return
    assert isinstance(value, TYPES[kind]), f"`{path}` is no {kind}: {value!r}"
    assert kind not in ("integer", "number") or not isinstance(value, bool), f"`{path}`: {value}"
    if kind == "object":
        _hold_object(value, fields, f"{path}.")
    elif kind == "list":
        for each in value:
            if f"{path}[]" in fields:
                _hold(each, fields, f"{path}[]")
            else:
                _hold_object(each, fields, f"{path}[].")
