"""What a table shows, in sentences: which method is highest where, and from which it is told."""

from collections import Counter

from orchestrator.report.cells import GENERATED, Table

ONE_SEED = "how much of a difference is noise is not known"


def in_a_sentence(table: Table) -> str:
    """Return what came out; empty while no target has all seeds of two methods."""
    tops = table.highest
    if not tops:
        return ""
    wins = Counter(top.method for top in tops.values())
    whole = f"{len(tops)} target{'' if len(tops) == 1 else 's'}"
    parts = []
    for number, (method, count) in enumerate(wins.most_common()):
        told = sum(top.method == method and top.not_told == () for top in tops.values())
        where = f" is highest on {count} of {whole}" if number == 0 else f" on {count}"
        tested = any(top.not_told is not None for top in tops.values() if top.method == method)
        parts.append(f"{table.label(method)}{where}, " + (_told(told) if tested else ONE_SEED))
    data = f"{GENERATED}: " if table.generated else ""
    return data + "; ".join(parts)


def not_told(table: Table) -> list[str]:
    """Return, for each target whose highest is not bold, the methods that it is not told from."""
    lines = []
    for column in table.columns:
        top = table.highest.get(column.target)
        if top is not None and top.not_told:
            others = "; ".join(map(table.label, top.not_told))  # Titles have commas.
            cell = table.cells[top.method, column.target]
            lines.append(
                f"{column.title}: {table.label(top.method)} ({cell}) is highest, and not told from {others}"
            )
    return lines


def _told(count: int) -> str:
    return f"told from all others on {count}" if count else "told from all others on none"
