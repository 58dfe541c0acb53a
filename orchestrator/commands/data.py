"""`hdsweep data`: from what was downloaded to datasets that one has looked at."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.commands.common import (
    DEFAULT_HOME,
    HomeOption,
    JsonOption,
    print_json,
    print_rich,
    say,
)
from orchestrator.errors import require_one_of
from orchestrator.home import Home, open_home
from trainables.bounds import LARGEST_SIDE, MOST_CPUS, MOST_DRAWN

app = typer.Typer(help="Prepare, import, verify and show datasets.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="As `hdsweep data list` calls it.")]
SizeOption = Annotated[
    int,
    typer.Option(
        "--image-size", min=1, max=LARGEST_SIDE, help="Side that networks see, in pixels."
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, max=MOST_CPUS, help="Processes; one per core.")
]
SkipOption = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out files that cannot be used, and record which."),
]
AgainOption = Annotated[
    bool, typer.Option("--again", help="Read everything again, whatever is prepared.")
]


@app.command("list")
def list_(
    home: HomeOption = DEFAULT_HOME, image_size: SizeOption = 256, as_json: JsonOption = False
) -> None:
    """List the datasets: what they are, where to get them, and whether they are prepared."""
    from orchestrator.datasets import listed, render_datasets

    records = listed(home.expanduser().absolute(), image_size)
    if as_json:
        print_json(records)
    else:
        print_rich(render_datasets(records, image_size))


@app.command()
def prepare(
    name: NameArgument,
    sources: Annotated[
        list[Path] | None,
        typer.Option(
            "--from", help="Folder, zip or tar of the download; several if it has parts."
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    image_size: SizeOption = 256,
    workers: WorkersOption = None,
    lenient: Annotated[
        bool, typer.Option("--any-count", help="Accept another number of images.")
    ] = False,
    skip_bad: SkipOption = False,
    again: AgainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn an official download into one checked Arrow file; interrupted, it goes on.

    What is prepared already is prepared again if the files it was read from have changed.
    """
    from orchestrator.datasets import known, prepare_dataset, skipped_lines

    info = known(name, Home(home.expanduser().absolute()))
    opened = open_home(home)
    prepared, how_fast = prepare_dataset(
        info,
        sources or [],
        opened,
        image_size=image_size,
        workers=workers,
        strict=not lenient,
        skip_bad=skip_bad,
        again=again,
        say=say,
    )
    say(
        f"{prepared.title}: {prepared.images} images, {how_fast}; "
        f"fingerprint {prepared.fingerprint[:16]}"
    )
    for line in skipped_lines(prepared):
        say(line)
    if as_json:
        print_json(prepared.model_dump(mode="json"))


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="What studies will call it.")],
    images: Annotated[Path, typer.Option("--images", help="Folder of images.")],
    masks: Annotated[Path, typer.Option("--masks", help="Folder of masks of the same names.")],
    classes: Annotated[
        Path, typer.Option("--classes", help="A name per line, the background first.")
    ],
    train: Annotated[
        Path | None, typer.Option("--train", help="An id per line: the images to train on.")
    ] = None,
    encoding: Annotated[
        str, typer.Option(help="Of masks: auto, binary, ids, palette, colours or npy.")
    ] = "auto",
    metric: Annotated[
        str, typer.Option(help="auto, jaccard or miou_ledm; auto is jaccard for two classes.")
    ] = "auto",
    augmentation: Annotated[
        str, typer.Option(help="As a source: none, flips or border_crop.")
    ] = "none",
    home: HomeOption = DEFAULT_HOME,
    image_size: SizeOption = 256,
    workers: WorkersOption = None,
    skip_bad: SkipOption = False,
    again: AgainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a dataset of your own known, and prepare it; studies then name it like any other."""
    from typing import get_args

    from orchestrator.datasets import import_dataset, prepare_dataset, skipped_lines
    from trainables.config import Augmentation, Metric
    from trainables.data.imported import ENCODINGS

    opened = open_home(home)
    info = import_dataset(
        name,
        opened,
        say=say,
        images=images,
        masks=masks,
        classes=classes,
        train=train,
        encoding=_choice("--encoding", encoding, ENCODINGS, auto=True),
        metric=_choice("--metric", metric, get_args(Metric), auto=True),
        augmentation=_choice("--augmentation", augmentation, get_args(Augmentation)),
    )
    prepared, how_fast = prepare_dataset(
        info,
        [],
        opened,
        image_size=image_size,
        workers=workers,
        strict=False,
        skip_bad=skip_bad,
        again=again,
        say=say,
    )
    say(f"{name}: {prepared.images} images, {len(info.classes)} classes, {how_fast}")
    for line in skipped_lines(prepared):
        say(line)
    if as_json:
        print_json(prepared.model_dump(mode="json"))


@app.command()
def verify(
    name: NameArgument,
    home: HomeOption = DEFAULT_HOME,
    image_size: SizeOption = 256,
    as_json: JsonOption = False,
) -> None:
    """Look into a prepared dataset: counts, classes, duplicates, leaks, fingerprint.

    Exit status 1 if something should be looked at before training.
    """
    from orchestrator.datasets import known, render_verified, verified_record, verify_prepared

    path = home.expanduser().absolute()
    found = verify_prepared(known(name, Home(path)), path, image_size)
    if as_json:
        print_json(verified_record(found))
    else:
        print_rich(render_verified(found))
    raise typer.Exit(int(bool(found.problems)))


@app.command()
def show(
    name: NameArgument,
    out: Annotated[Path, typer.Option("--out", help="Picture to write, .png.")] = Path(
        "sheet.png"
    ),
    images: Annotated[int, typer.Option(min=1, max=MOST_DRAWN, help="How many to show.")] = 24,
    home: HomeOption = DEFAULT_HOME,
    image_size: SizeOption = 256,
) -> None:
    """Write a contact sheet: images of a prepared dataset with their labels laid over them."""
    from orchestrator.datasets import known, write_contact_sheet

    path = home.expanduser().absolute()
    info = known(name, Home(path))
    write_contact_sheet(info, path, out, image_size=image_size, images=images)
    say(str(out))


def _choice(flag: str, value: str, known: tuple[str, ...], *, auto: bool = False) -> str | None:
    """Return a value that is one of the known ones; None for `auto`."""
    require_one_of(flag, value, ("auto", *known) if auto else known)
    return None if auto and value == "auto" else value
