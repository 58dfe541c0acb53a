"""Which sweep a plan is of: a study and its settings, by a hash and by a name for people.

    table2/smoke                                     the study as its files say
    table2/smoke, mask_weight=0.01                   with `--set pretraining.mask_weight=1e-2`
    table2/smoke, only hybrid_ft, ph2                a subset, where no whole of it is stored

The hash is over what every row reads of its settings, as far as that differs from the paper's, and over which rows
there are. So a setting that changes nothing, a title, a comment or another order of the file is the same
sweep, more seeds are more of the same, and another setting or another row is another sweep. Filters
decide nothing: they look at a part.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import InputError
from orchestrator.plan.specs import READ_BY
from orchestrator.study.checking import flat
from orchestrator.study.settings import DEFAULTS, Settings, setting_paths, tree_of, value_of
from trainables.keys import content_key
from trainables.methods import Method
from trainables.registry import TASKS, versioned

HEX_DIGITS = 8
BEFORE = "before"  # Instead of the key of a sweep from before sweeps had one.
MOST_NAMED = 4  # Methods or targets of a subset that its name lists.
KEYED = re.compile(
    rf"^(?:(?P<name>.*) )?#(?P<key>[0-9a-f]{{4,8}}(?:-[0-9a-f]{{1,4}})?|{BEFORE})$", re.DOTALL
)
BETWEEN = re.compile(r", (?![^\[]*\])")  # Parts of a name; not the elements of a list.
UNSAFE = re.compile(r"[^\w.+=#-]+")
NO_SLASH = re.compile(r"\s*[/:]\s*")
LONGEST_SLUG = 120  # Bytes; file systems take 255.

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Identity:
    """Which sweep."""

    study: str
    scale: str
    differences: Pairs
    """What the user set besides the study and the scale: short path and value, as shown."""
    digest: str
    """Hash of rows and settings, filters apart."""
    subset: tuple[str, ...] = ()
    """What is looked at, if it is not the whole: `hybrid_ft`, `ph2`, `seeds 0+1`."""

    @property
    def base(self) -> str:
        """Study and scale: `table2/smoke`."""
        return f"{self.study}/{self.scale}"

    @property
    def varied(self) -> str:
        """What was set besides, and what is looked at: `, mask_weight=0.01`; empty for a study as it is."""
        said = [f"{path}={value}" for path, value in self.differences]
        if self.subset:
            said.append(f"only {', '.join(self.subset)}")
        return "".join(f", {each}" for each in said)

    @property
    def name(self) -> str:
        """Name for people; two sweeps may share it, see `distinct`."""
        return f"{self.base}{self.varied}"

    @property
    def key(self) -> str:
        """What no two sweeps share."""
        if not self.subset:
            return self.digest
        return f"{self.digest}-{content_key(list(self.subset))[:4]}"

    @property
    def whole(self) -> "Identity":
        """The sweep that this is, or is a subset of."""
        return replace(self, subset=())


def digest_of(
    study: str, scale: str, rows: Mapping[tuple[Method, str | None, str], Settings], seed: int
) -> str:
    """Return the hash of a sweep.

    Args:
        rows: what each method on each source and target is set to.
        seed: of the pretrainings.
    """
    named: dict[str, Any] = {
        f"{method.name} {source} {target}": {
            "tasks": _tasks(method),
            "set": _read(settings, method),
        }
        for (method, source, target), settings in rows.items()
    }
    return content_key([study, scale, seed, named])[:HEX_DIGITS]


@dataclass(frozen=True)
class Change:
    """A setting that the user gave a value besides the study and the scale."""

    path: str
    """`pretraining.mask_weight`."""
    value: Any
    who: str | None = None
    """The one source or method that it is set for, by a search; None for all."""

    @property
    def pair(self) -> tuple[str, str]:
        """Path and value, as names show them."""
        path = short(self.path)
        return f"{self.who}.{path}" if self.who else path, shown(self.value)

    def concerns(self, method: Method, source: str | None, *, pretraining: bool) -> bool:
        """Whether a run of a row is made with it, be it through its pretraining."""
        if self.who not in (None, source, method.name) or not _reads(method, self.path):
            return False
        return not (pretraining and self.path.startswith(("fine_tuning.", "ledm.")))


def changes_of(
    before: Iterable[Settings],
    after: Iterable[Settings],
    paths: Iterable[str],
    tuned: Mapping[str, Any],
) -> tuple[Change, ...]:
    """Return what was set: of these paths those that make a difference to any row, and what was tuned.

    Args:
        before, after: what each row is set to without and with them.
        tuned: value by who and path, as in `Study.tuned`.
    """
    pairs = [(flat(tree_of(a)), flat(tree_of(b))) for a, b in zip(before, after, strict=True)]
    changes = []
    for path in paths:
        given = [new[path] for old, new in pairs if old[path] != new[path]]
        changes += [Change(path, given[0])] if given else []
    for name, value in tuned.items():
        who, _, path = name.partition(".")
        if all(path != each.path for each in changes):
            changes.append(Change(path, value, who))
    return tuple(changes)


def subset_of(
    methods: Sequence[str],
    targets: Sequence[str],
    seeds: Sequence[int],
    *,
    of: Sequence[Sequence[Any]],
) -> tuple[str, ...]:
    """Return what is selected, in words; nothing if it is all there is.

    Args:
        of: all methods, targets and seeds of the study.
    """
    chosen = zip(("methods", "targets", "seeds"), (methods, targets, seeds), of, strict=True)
    return tuple(
        _listed(kind, some) for kind, some, every in chosen if tuple(some) != tuple(every)
    )


def short(path: str) -> str:
    """Return the end of a setting's path that tells it from every other: `mask_weight`."""
    parts = path.split(".")
    for start in range(len(parts) - 1, 0, -1):
        end = ".".join(parts[start:])
        if sum(each == end or each.endswith(f".{end}") for each in PATHS) == 1:
            return end
    return path


def shown(value: object) -> str:
    """Return a value as names show it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return NO_SLASH.sub("_", value)
    return "none" if value is None else json.dumps(value, separators=(",", ":"))


def distinct(named: Mapping[str, str]) -> dict[str, str]:
    """Return a name for each key, such that no two are the same: those that would be have their key."""
    count = list(named.values()).count
    return {
        key: name if count(name) == 1 else f"{name} #{BEFORE if key == name else key}"
        for key, name in sorted(named.items(), key=lambda item: item[1])
    }


def find(written: str, known: Mapping[str, str], *, where: str) -> str:
    """Return the key of the sweep that a user means, by its name as shown, its key, or both.

    Args:
        known: name of each sweep by its key, as `distinct` has it.
        where: the home, for messages.

    Raises:
        InputError: if there is no such sweep, with those there are; or more than one.
    """
    exact = [key for key, name in known.items() if written.strip() in (key, name)]
    if len(exact) == 1:
        return exact[0]
    found = _nearest(written, [key for key in known if _means(written, key, known[key])])
    if len(found) == 1:
        return found[0]
    if not found:
        raise unknown_sweep(written, known.values(), where=where)
    listed = "; ".join(f"`{known[key]}`" for key in found)
    raise InputError(f"`{written}` is more than one sweep of {where}", hint=f"one of {listed}")


def unknown_sweep(name: str, known: Iterable[str], *, where: str) -> InputError:
    """Return what to tell of a sweep that is not stored, with those that are."""
    listed = sorted(known)
    if not listed:
        return InputError(f"no sweep `{name}` is stored at {where}, nor any other")
    alike = [each for each in listed if each.partition(" #")[0] == name]
    if alike:  # What is asked for is a study, and not a name.
        return InputError(
            f"`{name}` at {where} is another sweep: its settings or rows are not those of the study as it is now",
            hint=f"`{alike[0]}` instead of the study shows what is stored; `run` stores this one beside it",
        )
    close = difflib.get_close_matches(name, listed, n=1)
    every = f"there {'is' if len(listed) == 1 else 'are'} {'; '.join(listed)}"
    hint = f"did you mean `{close[0]}`? {every}" if close else every
    return InputError(f"unknown sweep `{name}` at {where}", hint=hint)


def canonical(name: str) -> str:
    """Return a name as `Identity.name` writes it: `mask_weight=1e-2` is `mask_weight=0.01`."""
    base, *parts = (part.strip() for part in BETWEEN.split(name))
    return ", ".join([base, *map(_canonical_part, parts)])


def looks_like_a_sweep(written: str) -> bool:
    """Whether a user who could name a study names a stored sweep instead: `table2/smoke`, `#1a2b3c4d`."""
    if KEYED.match(written.strip()):
        return True
    return not written.endswith(".toml") and "/" in written


def slug(name: str) -> str:
    """Return a name as that of a folder; two names may have the same, see `folders`."""
    return UNSAFE.sub("-", name.replace(", ", "-")).strip("-")


def folders(named: Mapping[str, str]) -> dict[str, str]:
    """Return the name of a folder for each sweep by its key, such that no two are the same.

    Args:
        named: name of each sweep by its key.
    """
    slugs = {key: slug(name) for key, name in named.items()}
    # Some file systems hold capitals and small letters for the same.
    count = [each.casefold() for each in slugs.values()].count
    return {
        key: each
        if count(each.casefold()) == 1 and 0 < len(each.encode()) <= LONGEST_SLUG
        else f"{each.encode()[:LONGEST_SLUG].decode(errors='ignore')}-{slug(key)}"
        for key, each in slugs.items()
    }


def _means(written: str, key: str, name: str) -> bool:
    """Whether a user may mean a sweep: by its name, or by the beginning of its key, or by both."""
    keyed = KEYED.match(written.strip())
    plain = KEYED.match(name)
    name = plain["name"] if plain and plain["name"] else name
    if keyed is None:
        return canonical(written) == canonical(name)
    wanted = keyed["name"]
    if wanted is not None and canonical(wanted) != canonical(name):
        return False
    # A sweep of before is kept under its name.
    return key == name if keyed["key"] == BEFORE else key.startswith(keyed["key"])


def _nearest(written: str, found: Sequence[str]) -> Sequence[str]:
    """Return of the sweeps that a key may mean the one that has it, or the wholes rather than their subsets."""
    keyed = KEYED.match(written.strip())
    if keyed is None:
        return found
    same = [key for key in found if key == keyed["key"]]
    return same or [key for key in found if "-" not in key] or found


def _canonical_part(part: str) -> str:
    path, equals, value = part.partition("=")
    if not equals:
        return part
    who, _, rest = path.strip().partition(".")
    setting, of_one = _setting(path.strip()), _setting(rest)
    if setting is not None:
        path = short(setting)
    elif of_one is not None:  # Of one source or one method, from a search.
        path = f"{who}.{short(of_one)}"
    return f"{path.strip()}={shown(value_of(value.strip()))}"


def _setting(written: str) -> str | None:
    """Return the path of the one setting that a path, or the end of one, means; None if there is none."""
    if written in PATHS:
        return written
    found = [path for path in PATHS if path.endswith(f".{written}")]
    return found[0] if len(found) == 1 else None


def _listed(kind: str, some: Sequence[object]) -> str:
    if kind == "seeds":
        return f"seed{'' if len(some) == 1 else 's'} {'+'.join(map(str, some))}"
    listed = "+".join(map(str, some[:MOST_NAMED]))
    if len(some) <= MOST_NAMED:
        return listed
    # The rest by a hash: two subsets must not have the same name.
    return f"{listed}+{len(some) - MOST_NAMED} more {content_key(list(map(str, some)))[:4]}"


def _tasks(method: Method) -> list[str | None]:
    """Return the tasks of a row; those of a user's own with the hash of their code."""
    tasks = (method.pretraining, method.adaptation)
    if method.code is None:
        return list(tasks)
    return [versioned(t, method.code) if t and ":" in t else t for t in tasks]


def _read(settings: Settings, method: Method) -> dict[str, Any]:
    """Return the settings that a row reads, as far as they are not the paper's."""
    return {
        path: value
        for path, value in flat(tree_of(settings)).items()
        if value != PAPER[path] and _reads(method, path)
    }


def _reads(method: Method, path: str) -> bool:
    table, _, rest = path.partition(".")
    if table == "networks":
        return rest.startswith(f"{method.network}.")
    if table in ("fine_tuning", "ledm"):
        return (table == "ledm") == (method.adaptation == "ledm")
    if table == "pretraining":
        return method.pretraining is not None and _pretraining_reads(method.pretraining, rest)
    return True


def _pretraining_reads(task: str, rest: str) -> bool:
    readers = READ_BY.get(rest.partition(".")[0])
    return task not in TASKS or readers is None or task in readers


PATHS = frozenset(setting_paths(Settings))
PAPER = flat(DEFAULTS)


def sweep_record(identity: Identity) -> dict[str, Any]:
    """Return which sweep a document is of; the same in all of them."""
    return {
        "name": identity.name,
        "key": identity.key,
        "study": identity.study,
        "scale": identity.scale,
        "set": dict(identity.differences),
        "only": list(identity.subset),
    }
