"""`hdsweep data`: from what was downloaded to datasets that one has looked at."""

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.commands.common import (
    DEFAULT_HOME,
    AdoptOption,
    HomeOption,
    JsonOption,
    print_json,
    print_rich,
    say,
)
from orchestrator.errors import require_one_of
from orchestrator.store.home.home import Home, open_home
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
EmptyOption = Annotated[
    bool,
    typer.Option("--allow-empty-class", help="Accept classes of which no image has a pixel."),
]
AgainOption = Annotated[
    bool, typer.Option("--again", help="Read everything again, whatever is prepared.")
]


@app.command("list")
def list_(
    home: HomeOption = DEFAULT_HOME, image_size: SizeOption = 256, as_json: JsonOption = False
) -> None:
    """List the datasets: what they are, where to get them, and whether they are prepared."""
    from orchestrator.verbs.data import listed, render_datasets

    records = listed(home.expanduser().absolute(), image_size)
    if as_json:
        print_json("data.list", {"datasets": records})
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
    adopt: AdoptOption = False,
    image_size: SizeOption = 256,
    workers: WorkersOption = None,
    lenient: Annotated[
        bool, typer.Option("--any-count", help="Accept another number of images.")
    ] = False,
    skip_bad: SkipOption = False,
    allow_empty_class: EmptyOption = False,
    again: AgainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn an official download into one checked Arrow file; interrupted, it goes on.

    What is prepared already is prepared again if the files it was read from have changed.
    """
    from orchestrator.verbs.data import known, prepare_dataset, skipped_lines

    info = known(name, Home(home.expanduser().absolute()))
    opened = open_home(home, adopt=adopt)
    prepared, how_fast = prepare_dataset(
        info,
        sources or [],
        opened,
        image_size=image_size,
        workers=workers,
        strict=not lenient,
        skip_bad=skip_bad,
        allow_empty_class=allow_empty_class,
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
        print_json("data.prepared", {"dataset": prepared.model_dump(mode="json")})


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="What studies will call it.")],
    images: Annotated[
        str,
        typer.Option(
            "--images",
            metavar="FOLDER|ARCHIVE|PATTERN",
            help="Images: png, jpg, bmp, tif, gif or webp; a folder, a zip or tar (or a folder in "
            "one), or a pattern such as 'scans/{id}.tif'.",
        ),
    ],
    masks: Annotated[
        str,
        typer.Option(
            "--masks",
            metavar="FOLDER|ARCHIVE|PATTERN",
            help="Masks of the same names, perhaps with _mask, _segmentation, _label(s), _gt, "
            "_manual1 or _1stHO after them, in the images' folder too: png, bmp, tif, gif, webp, npy; "
            "of two classes also jpg. Or a pattern: '{id}_contour.png', '{id}/masks/*.png' (united), "
            "'{id}_{class}.png' (one per class, later ones over earlier).",
        ),
    ],
    classes: Annotated[
        Path,
        typer.Option(
            "--classes",
            help="A class per line, the background first: `name`, `id name`, `name red green blue`; "
            "listed ids and colours decide. 255 is ignored unless it is an id.",
        ),
    ],
    train: Annotated[
        Path | None,
        typer.Option(
            "--train",
            help="An id per line: the images to train on as a target; the others are for validation "
            "and test. A source is trained on all of its images.",
        ),
    ] = None,
    encoding: Annotated[
        str,
        typer.Option(
            help="Of masks: auto, binary (black and white), ids (stored level), levels (shown "
            "level), palette (index), colours or npy."
        ),
    ] = "auto",
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="Number or red,green,blue in masks that is no class."),
    ] = None,
    transparent: Annotated[
        str | None,
        typer.Option("--transparent", help="Class of transparent pixels, or `ignored`."),
    ] = None,
    any_mask_size: Annotated[
        bool,
        typer.Option("--any-mask-size", help="Masks may be smaller or larger, of the same shape."),
    ] = False,
    modality: Annotated[
        str,
        typer.Option(help="photograph, or chest-xray: equalised like the official X-rays."),
    ] = "photograph",
    metric: Annotated[
        str, typer.Option(help="auto, jaccard or miou_ledm; auto is jaccard for two classes.")
    ] = "auto",
    augmentation: Annotated[
        str, typer.Option(help="As a source: none, flips or border_crop.")
    ] = "none",
    home: HomeOption = DEFAULT_HOME,
    adopt: AdoptOption = False,
    image_size: SizeOption = 256,
    workers: WorkersOption = None,
    skip_bad: SkipOption = False,
    allow_empty_class: EmptyOption = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the name from the dataset that has it.")
    ] = False,
    again: AgainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a dataset of your own known, and prepare it; studies then name it like any other.

    What masks mean is told from all of them together, and refused where it can be told in two ways.
    """
    from typing import get_args

    from orchestrator.verbs.data import skipped_lines
    from orchestrator.verbs.own_data import Files, Preparing, import_dataset
    from trainables.config import Augmentation, Metric
    from trainables.data.own.coding import ENCODINGS
    from trainables.data.own.description import Modality
    from trainables.data.own.said import Said

    opened = open_home(home, adopt=adopt)
    said = Said(
        classes=classes,
        train=train,
        encoding=_choice("--encoding", encoding, ENCODINGS, auto=True),
        metric=_choice("--metric", metric, get_args(Metric), auto=True),
        augmentation=_choice("--augmentation", augmentation, get_args(Augmentation)),
        ignore=tuple(ignore or ()),
        transparent=transparent,
        modality=_choice("--modality", modality, get_args(Modality)),
        any_mask_size=any_mask_size,
    )
    preparing = Preparing(
        image_size=image_size,
        workers=workers,
        skip_bad=skip_bad,
        allow_empty_class=allow_empty_class,
        again=again,
    )
    prepared, how_fast = import_dataset(
        name, Files(images, masks), said, opened, preparing=preparing, replace=replace, say=say
    )
    say(f"{name}: {prepared.images} images, {len(prepared.classes)} classes, {how_fast}")
    for line in skipped_lines(prepared):
        say(line)
    if as_json:
        print_json("data.prepared", {"dataset": prepared.model_dump(mode="json")})


@app.command()
def remove(name: NameArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Remove a dataset from the home folder: what is prepared of it, and that it was imported.

    Its own files and the results of finished runs stay.
    """
    from orchestrator.verbs.own_data import remove_dataset

    gone = remove_dataset(name, Home(home.expanduser().absolute()))
    say(f"{name}: removed {', '.join(gone)}")


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
    from orchestrator.verbs.data import known, render_verified, verified_record, verify_prepared

    path = home.expanduser().absolute()
    found = verify_prepared(known(name, Home(path)), path, image_size)
    if as_json:
        print_json("data.verify", verified_record(found))
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
    from orchestrator.verbs.data import known, write_contact_sheet

    path = home.expanduser().absolute()
    info = known(name, Home(path))
    write_contact_sheet(info, path, out, image_size=image_size, images=images)
    say(str(out))


def _choice(flag: str, value: str, known: tuple[str, ...], *, auto: bool = False) -> Any:
    """Return a value that is one of the known ones; None for `auto`."""
    require_one_of(flag, value, ("auto", *known) if auto else known)
    return None if auto and value == "auto" else value
