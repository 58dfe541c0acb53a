"""`hdsweep data import` and `remove`: a dataset becomes known when all of it was read, and is forgotten."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.cluster.hardware import cpu_cores
from orchestrator.errors import InputError, UnknownNameError
from orchestrator.store.home.home import Home
from orchestrator.verbs.data import SHOWN, prepare_dataset, told_as_input
from orchestrator.wording import in_short
from trainables.data.contents import read_contents
from trainables.data.datasets import all_datasets, known_datasets
from trainables.data.errors import BadReleaseError
from trainables.data.files.readers import Readers
from trainables.data.own.description import ImportedDataset, read_description
from trainables.data.own.said import Said, too_few
from trainables.data.prepared import Prepared

if TYPE_CHECKING:
    from trainables.data.own.describe import Description

Say = Callable[[str], None]
# What readers of a dataset of one's own load while it is told which files they are to read.
READING = ("trainables.data.files.reading", "trainables.data.own.reading")


class Files(NamedTuple):
    """Where a user says that images and masks are: folders, archives or patterns."""

    images: str
    masks: str


class Preparing(NamedTuple):
    """How an imported dataset is prepared."""

    image_size: int
    workers: int | None
    skip_bad: bool
    allow_empty_class: bool
    again: bool


def import_dataset(
    name: str,
    files: Files,
    said: Said,
    home: Home,
    *,
    preparing: Preparing,
    replace: bool,
    say: Say,
) -> tuple[Prepared, str]:
    """Prepare a dataset of one's own, and make it known; return it, and how fast it went.

    Every mask is decoded once: how all are coded is told from the first ones, and each of the others
    is held against that; where one does not agree, all are looked at before anything is decided.

    Args:
        replace: take the name from a dataset of other files.
        say: told what was found out about it.

    Raises:
        InputError: if the name is taken, or what was said or is there cannot be used. A dataset of
            this name stays as it was.
    """
    if name in all_datasets():
        raise InputError(f"`{name}` is the name of a dataset of the paper; choose another")
    with Readers(preparing.workers or cpu_cores(), READING) as readers:
        return _imported(
            name, files, said, home, preparing=preparing, replace=replace, readers=readers, say=say
        )


def _imported(
    name: str,
    files: Files,
    said: Said,
    home: Home,
    *,
    preparing: Preparing,
    replace: bool,
    readers: Readers,
    say: Say,
) -> tuple[Prepared, str]:
    from trainables.data.own.describe import look_at  # With NumPy; after the readers were forked.

    file = home.datasets / f"{name}.json"

    def look(*, every: bool) -> "Description":
        beside = home.datasets / f"{name}-looked-at"
        with told_as_input():
            return look_at(name, *files, said, every=every, unpack_beside=beside)

    described = look(every=False)
    for note in described.notes:
        say(f"{name}: {note}")
    before = _before(file, described.dataset, replace=replace)
    if before and before.rules < described.dataset.rules:
        preparing = preparing._replace(again=True)
    try:
        prepared, how_fast, described = _prepared(
            described, look, home, preparing=preparing, readers=readers, say=say
        )
        _require_parts(described.dataset, prepared, home)
    except InputError as error:
        if before is None:
            _forget(name, home, parts=not isinstance(error.__cause__, BadReleaseError))
        raise
    if before and _is_another(before, described.dataset):
        _forget(name, home, but=f"{name}-{prepared.stored_side}")
    _write(file, described.dataset)
    home.push()
    return prepared, how_fast


def _prepared(
    described: "Description",
    look: Callable[..., "Description"],
    home: Home,
    *,
    preparing: Preparing,
    readers: Readers,
    say: Say,
) -> tuple[Prepared, str, "Description"]:
    """Prepare what was described; where a mask does not fit, look at all masks first."""

    def prepare(described: "Description") -> tuple[Prepared, str]:
        return prepare_dataset(
            described.info(),
            [],
            home,
            strict=False,
            readers=readers,
            say=say,
            **preparing._asdict(),
        )

    try:
        prepared, how_fast = prepare(described)
        refused = None
    except InputError as error:
        if described.every or not isinstance(error.__cause__, BadReleaseError):
            raise
        refused = error
    if refused or (prepared.skipped and not described.every):
        again = look(every=True)
        if again.dataset != described.dataset:
            described = again
            for note in described.notes:
                say(f"{described.dataset.name}: {note}")
            prepared, how_fast = prepare(described)
        elif refused:
            raise refused
    return prepared, how_fast, described


def remove_dataset(name: str, home: Home) -> list[str]:
    """Remove what a home folder has of a dataset; return the names of the files and folders.

    Raises:
        InputError: if it has nothing of it, or a sweep is at work there.
    """
    if home.driver is not None:
        raise InputError(
            f"home folder `{home.path}` is in use by a sweep, which may be reading `{name}`",
            hint="wait for it to end",
        )
    gone = _forget(name, home)
    if not gone:
        with told_as_input():
            known = known_datasets(home.path)
        if name in known:
            raise InputError(f"nothing of `{name}` is in the home folder {home.path}")
        raise UnknownNameError("dataset", name, known, where="NAME")
    return gone


def _before(file: Path, fresh: ImportedDataset, *, replace: bool) -> ImportedDataset | None:
    """Return the dataset that has the name.

    Raises:
        InputError: if it is of other files or has other classes, and is not to be replaced.
    """
    if not file.exists():
        return None
    with told_as_input():
        before = read_description(file)
    wrong = ""
    if _files_of(before) != _files_of(fresh):
        wrong = f"is imported from {before.images} and {before.masks}"
    elif before.class_list != fresh.class_list:
        wrong = f"is imported with another class list ({in_short(before.classes, most=SHOWN)})"
    if wrong and not replace:
        raise InputError(
            f"`{fresh.name}` {wrong}",
            hint=f"--replace takes its name, `hdsweep data remove {fresh.name}` removes it; or choose "
            "another name",
        )
    return before


def _is_another(before: ImportedDataset, fresh: ImportedDataset) -> bool:
    return _files_of(before) != _files_of(fresh) or before.class_list != fresh.class_list


def _require_parts(dataset: ImportedDataset, prepared: Prepared, home: Home) -> None:
    """Raise an InputError if bad files left too few images on either side of a split that was said."""
    if not dataset.train:
        return
    contents = read_contents(home.datasets / f"{dataset.name}-{prepared.stored_side}")
    if contents is None:
        return
    train = contents.official_split.count("train")
    if wrong := too_few(train, prepared.images):
        raise InputError(f"`{dataset.name}`: {wrong}, and {len(prepared.skipped)} were skipped")


def _files_of(dataset: ImportedDataset) -> tuple[str, ...]:
    return dataset.images, dataset.masks, dataset.images_named, dataset.masks_named


def _write(file: Path, dataset: ImportedDataset) -> None:
    from trainables.data.store import write_private

    fresh = file.with_suffix(".new")
    write_private(fresh, dataset.model_dump_json(indent=1))
    fresh.rename(file)


def _forget(name: str, home: Home, *, parts: bool = True, but: str = "") -> list[str]:
    """Remove what is known, prepared and half prepared of a dataset; return what that was.

    Args:
        parts: also what was read before a bad file, which spares the next try.
        but: a prepared dataset to keep.
    """
    pattern = rf"\.?{re.escape(name)}(\.json|\.new|-\d+|-(\d+|looked-at)\.[\w.]+)"
    gone = []
    for path in sorted(home.datasets.glob("*")) if home.datasets.is_dir() else []:
        kept = bool(but) and path.name in {but, f"{name}.json"}
        resumes = not parts and path.name.endswith((".parts", ".problems.txt"))
        if not re.fullmatch(pattern, path.name) or kept or resumes:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        if home.mirror:
            home.mirror.drop(path)
        gone.append(path.name)
    return gone
