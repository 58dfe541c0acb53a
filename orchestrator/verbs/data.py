"""`hdsweep data`: which datasets there are; preparing, importing, verifying and showing one."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console, Group
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from orchestrator.cluster.hardware import cpu_cores
from orchestrator.errors import InputError, UnknownNameError
from orchestrator.store.home.home import Home
from orchestrator.wording import in_short
from trainables.data.datasets import known_datasets
from trainables.data.errors import MOST_LISTED, DatasetError
from trainables.data.files.readers import Readers
from trainables.data.info import DatasetInfo
from trainables.data.prepared import (
    DATA_FILE,
    DESCRIPTION_FILE,
    Prepared,
    find_prepared,
    folder_of,
)

if TYPE_CHECKING:
    from trainables.data.inspection.verification import Verified

SHOWN = 8  # Duplicates and ids that a report lists.


def listed(home: Path, image_size: int) -> list[dict[str, Any]]:
    """Return one record per dataset."""
    records = []
    with told_as_input():
        known = known_datasets(home)
    for name, info in known.items():
        prepared = find_prepared(home, info, image_size)
        records.append(
            {
                "name": name,
                "title": info.title,
                "role": info.role,
                "classes": len(info.classes),
                "expected": info.expected,
                "prepared": prepared.images if prepared else None,
                "fingerprint": prepared.fingerprint if prepared else None,
                "generated": info.generated,
                "terms": info.terms,
                "url": info.url,
                "doubt": info.doubt or None,
            }
        )
    return records


def render_datasets(records: list[dict[str, Any]], image_size: int) -> Group:
    """Return the records for a terminal: what there is, then where to get it."""
    table = Table("name", "role", "classes", "images", f"prepared at {image_size} px", box=SIMPLE)
    places, doubts = [], []
    real = [record for record in records if not record["generated"]]
    for record in real:
        state = ""
        if record["prepared"] is not None:
            state = f"{record['prepared']} images, {record['fingerprint'][:16]}"
        counts = (str(record["classes"]), str(record["expected"]))
        table.add_row(record["name"], record["role"], *counts, state)
        places.append(f"{record['name']}: {record['url']}\n    {record['terms']}")
        if record["doubt"]:
            doubts.append(f"{record['name']}: {record['doubt']}")
    stand_ins = [record["name"] for record in records if record["generated"]]
    where = Text("\n".join(places), overflow="ignore", no_wrap=True)
    made = Text(f"generated stand-ins, made when a run needs them: {', '.join(stand_ins)}")
    doubted = [Text(f"look at: {doubt}", style="yellow") for doubt in doubts]
    return Group(table, where, Text(), made, *doubted)


def known(name: str, home: Home) -> DatasetInfo:
    """Return a dataset by its name.

    Raises:
        InputError: if there is none.
    """
    with told_as_input():
        datasets = known_datasets(home.path)
    if name not in datasets:
        raise UnknownNameError("dataset", name, datasets, where="NAME")
    return datasets[name]


def prepare_dataset(
    info: DatasetInfo,
    sources: Sequence[Path],
    home: Home,
    *,
    image_size: int,
    workers: int | None,
    strict: bool,
    skip_bad: bool,
    allow_empty_class: bool,
    again: bool,
    say: Callable[[str], None],
    readers: Readers | None = None,
) -> tuple[Prepared, str]:
    """Prepare one dataset, with a progress bar on standard error; return it, and how fast it went.

    Args:
        allow_empty_class: take it though a class has no pixel; this is said all the same.
        again: read everything again, whatever is prepared.
        say: told why a dataset that is there is prepared again.
        readers: the processes that read images, if they were started before; `workers` of them.

    Raises:
        InputError: if its files are missing or damaged, their number is not that of the release, or
            a class has no pixel.
    """
    from trainables.data.prepare import How, prepare

    if not sources and not info.generated:
        if info.role != "any":
            raise InputError(
                f"dataset `{info.name}` needs --from, its official download: a folder or archive",
                hint=f"{info.url} ({info.terms})",
            )
        sources = info.sources  # From where it was imported.
    processes = workers or cpu_cores()
    started, counted = time.monotonic(), 0
    with _bar(info.name) as bar, told_as_input():

        def on_progress(done: int, total: int) -> None:
            nonlocal counted
            counted = done
            bar(done, total)

        how = How(
            workers=processes,
            readers=readers,
            strict=strict,
            skip_bad=skip_bad,
            allow_empty_class=allow_empty_class,
            again=again,
            on_progress=on_progress,
            on_again=lambda why: say(f"{why}; preparing it again"),
        )
        home.bring(
            folder_of(home.path, info, image_size) / DATA_FILE
        )  # If it was prepared elsewhere.
        prepared = prepare(info, sources, home.path, image_size=image_size, how=how)
    for name in prepared.empty_classes:
        say(f"{info.name}: class `{name}` has no pixel in any image")
    home.push()
    seconds = time.monotonic() - started
    if not counted:
        return prepared, "already prepared"
    return prepared, f"{seconds:.1f} s, {counted / seconds:.0f} images/s on {processes} processes"


def skipped_lines(prepared: Prepared) -> list[str]:
    """Return what was left out, a line each; of very many the first, and where the others are."""
    lines = [f"skipped: {problem}" for problem in prepared.skipped[:MOST_LISTED]]
    more = len(prepared.skipped) - len(lines)
    if more:
        place = f"datasets/{prepared.name}-{prepared.stored_side}/{DESCRIPTION_FILE}"
        lines.append(f"skipped: {more} more, all of them listed in {place} of the home folder")
    return lines


def verify_prepared(info: DatasetInfo, home: Path, image_size: int) -> "Verified":
    """Return what is in a prepared dataset.

    Raises:
        InputError: if it is not prepared, or its file is damaged.
    """
    from trainables.data.inspection.verification import verify_dataset

    Home(home).bring_datasets()  # Also those that it is compared with.
    with told_as_input():
        return verify_dataset(info, home, known_datasets(home), image_size=image_size)


def verified_record(found: "Verified") -> dict[str, Any]:
    """Return the finding for machines."""
    record = asdict(found)
    del record["prepared"]
    return {"dataset": found.prepared.model_dump(mode="json"), **record}


def render_verified(found: "Verified") -> Group:
    """Return the finding for a terminal."""
    prepared = found.prepared
    table = Table("label", "class", "pixels", "images with it")
    for label, each in enumerate(found.classes):
        table.add_row(str(label), each.name, f"{each.pixels:.2%}", str(each.images))
    counts = f"{prepared.images} of {found.expected} images, {prepared.stored_side} px"
    lines = [
        f"{counts}, {prepared.bytes / 1e6:.1f} MB; ignored pixels {found.ignored:.2%}",
        f"fingerprint {prepared.fingerprint}: content as it was prepared",
        _duplicates(found),
        *skipped_lines(prepared),
    ]
    texts = [Text(line) for line in lines]
    texts += [Text(f"look at: {problem}", style="yellow") for problem in found.problems]
    return Group(Text(prepared.title, style="bold"), table, *texts)


def write_contact_sheet(
    info: DatasetInfo, home: Path, out: Path, *, image_size: int, images: int
) -> None:
    """Write a contact sheet of a prepared dataset.

    Raises:
        InputError: if it is not prepared, or the picture cannot be written.
    """
    from trainables.data.contents import read_contents
    from trainables.data.inspection.sheet import write_sheet
    from trainables.data.store import ArrowDataset

    prepared = find_prepared(home, info, image_size)
    if prepared is None:
        raise InputError(
            f"`{info.name}` is not prepared for {image_size} px",
            hint=f"hdsweep data prepare {info.name} --image-size {image_size}",
        )
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out}: must end in .png")
    with told_as_input():
        folder = folder_of(home, info, image_size)
        Home(home).bring(folder / DATA_FILE)
        data = ArrowDataset.open(folder, fingerprint=prepared.fingerprint)
        try:
            write_sheet(out, data, prepared, images=images, contents=read_contents(folder))
        except OSError as error:
            raise InputError(f"--out {out}: cannot be written: {error.strerror}") from error


def _duplicates(found: "Verified") -> str:
    others = f", nor in {', '.join(found.compared_with)}" if found.compared_with else ""
    if not found.duplicates:
        return f"no two images look alike{others}"
    by_kind: dict[str, list[str]] = {}
    for each in found.duplicates:
        kind = "the same pixels" if each.likeness == "the same" else f"look {each.likeness}"
        by_kind.setdefault(f"{kind}, {each.where}", []).append(f"{each.first} = {each.second}")
    return "; ".join(
        f"{kind}: {len(pairs)} ({in_short(pairs, most=SHOWN)})" for kind, pairs in by_kind.items()
    )


@contextmanager
def _bar(name: str) -> "Iterator[Any]":
    """Yield a function that moves a progress bar; silent where nobody watches."""
    console = Console(file=sys.stderr)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"preparing {name}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def told_as_input() -> Iterator[None]:
    """Turn what is wrong with data into an error of the user's."""
    try:
        yield
    except DatasetError as error:
        raise InputError(str(error)) from error
