"""`hdsweep report`: what a study has shown so far."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cluster.hardware import cpu_cores
from orchestrator.commands.common import (
    DEFAULT_HOME,
    FromTuneOption,
    HomeOption,
    JsonOption,
    MethodsOption,
    RandomBackboneOption,
    ScaleOption,
    SeedsOption,
    SetOption,
    StudyArgument,
    TargetsOption,
    nothing_collected,
    print_json,
    print_table,
    say,
)
from orchestrator.errors import InputError
from orchestrator.plan.identity import folders, slug
from orchestrator.plan.plan import Plan
from orchestrator.store.home.home import Home, may_be_written, owners_only
from orchestrator.verbs.asked import asked_plan, require_home

if TYPE_CHECKING:
    from orchestrator.store.store import Store


@nothing_collected()
def report(
    study: StudyArgument,
    scale: ScaleOption = None,
    methods: MethodsOption = None,
    targets: TargetsOption = None,
    seeds: SeedsOption = None,
    overrides: SetOption = None,
    random_backbone: RandomBackboneOption = False,
    from_tune: FromTuneOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for the files; reports/ in the home folder if not given."
        ),
    ] = None,
    no_pictures: Annotated[
        bool,
        typer.Option("--no-pictures", help="Leave images out, for a page that is passed on."),
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Print the table of STUDY as far as its runs are stored, and write its report.

    One self-contained report.html, the table as .md, .tex, .csv, .parquet and .json, and the figures
    as .svg and .png. At any moment of a sweep: cells say how many of their seeds they have.
    """
    from orchestrator.report import write_report
    from orchestrator.report.evidence import gather
    from orchestrator.report.writers.records import to_document
    from orchestrator.store.store import Store
    from orchestrator.verbs.run import table_of

    opened = Home(home.expanduser().absolute())
    planned = asked_plan(
        study,
        opened.path,
        scale=scale,
        methods=methods,
        targets=targets,
        seeds=seeds,
        overrides=overrides or (),
        allow_random_backbone=random_backbone,
        from_tune=from_tune,
    )
    require_home(opened)
    store = Store.read(opened)
    if store is not None:
        store.sweeps.require(planned, where=f"`{opened.path}`")
    table = table_of(planned, store)
    if out is None and not as_json and store is not None and not may_be_written(opened.path):
        say(f"home `{opened.path}` may only be read: --out names a folder for the report")
    elif out is not None or (store is not None and not as_json):
        folder = out or _own_folder(opened, planned, store)
        evidence = gather(planned, store, pictures=not no_pictures)
        try:
            page, *_ = write_report(table, folder, evidence, processes=cpu_cores())
        except OSError as error:
            reason = f"cannot be written: {error.strerror or error}"
            raise InputError(
                f"the report at `{folder}` {reason}", hint="--out names a folder for it"
            ) from error
        say(f"report: {page}")
    if as_json:
        print_json("table", to_document(table))
    elif out is None:
        print_table(table)


def _own_folder(home: Home, plan: Plan, store: "Store | None") -> Path:
    """Return where in a home the report of a sweep lies, as private as all that is there.

    That of a part of a sweep lies below it, and never in its place.
    """
    owners_only()
    identity = plan.identity
    names = {identity.digest: identity.whole.name} | (store.sweeps.names() if store else {})
    folder = home.path / "reports" / folders(names)[identity.digest]
    return folder / f"subset-{slug('-'.join(identity.subset))}" if identity.subset else folder
