"""Which methods, targets and seeds: one grammar for study files and the filters of every command.

A list of names, in a file as a TOML list and on the command line separated by commas. Methods also
have groups: `baselines`, `hybrid`, `all`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import InputError, UnknownNameError
from trainables import methods

Written = str | Sequence[str] | None
"""A filter as it arrives: `a,b`, or a list of such texts, or None for no filter."""


@dataclass(frozen=True)
class Filters:
    """What of a study is wanted; None is everything."""

    methods: Written = None
    targets: Written = None
    seeds: Written = None


def method_names(names: Sequence[str], *, where: str) -> tuple[str, ...]:
    """Return the methods that names and groups stand for, each once, in the order written.

    Raises:
        UnknownNameError: if a name is neither a method nor a group.
        InputError: if a name is written twice.
    """
    expansions = {name: (name,) for name in methods.all_methods()} | methods.groups()
    refuse_repeated("method", names, where=where)
    for name in names:
        if name not in expansions:
            raise UnknownNameError("method", name, expansions, where=where)
    return tuple(dict.fromkeys(method for name in names for method in expansions[name]))


def narrow(
    kind: str,
    present: Sequence[str],
    written: Written,
    *,
    study: str,
    vocabulary: Iterable[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> tuple[str, ...]:
    """Return what a filter leaves of a study's methods, targets or seeds, in the study's order.

    Args:
        kind: `method`, `target` or `seed`; the flag is its plural.
        vocabulary: every name there is; what is not in it is rather misspelt than missing.
        groups: names that stand for several, of which the study must have at least one.

    Raises:
        UnknownNameError: if the filter has a name that does not exist.
        InputError: if it has one that the study does not have, or none at all.
    """
    if written is None:
        return tuple(present)
    names = split_names(written)
    where = f"--{kind}s {','.join(names)}"
    if not names:
        raise InputError(f"{where} names no {kind}")
    refuse_repeated(kind, names, where=where)
    expansions = {name: (name,) for name in present} | dict(groups or {})
    wanted: set[str] = set()
    for name in names:
        if vocabulary and name not in {*vocabulary, *expansions}:
            raise UnknownNameError(kind, name, expansions, where=where)
        members = set(expansions.get(name, ())) & set(present)
        if not members:
            hint = f"its {kind}s are {', '.join(present)}"
            raise InputError(f"study `{study}` has no {kind} `{name}`, as in {where}", hint=hint)
        wanted |= members
    return tuple(name for name in present if name in wanted)


def split_names(written: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names in `a,b`, or in each of several such texts."""
    texts = [written] if isinstance(written, str) else written
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise ValueError("should be names, as a list or separated by commas")
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())


def refuse_repeated(kind: str, names: Sequence[object], *, where: str) -> None:
    """Raise an InputError if a name occurs twice: one of the two was meant to be another."""
    repeated = sorted({str(name) for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{kind} `{repeated[0]}` is listed twice at {where}")
