"""`hdsweep tune`: search lambda, the fine-tuning learning rate, or both."""

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.commands.common import (
    DEFAULT_HOME,
    AddressOption,
    AdoptOption,
    GpuGbOption,
    HomeOption,
    JsonOption,
    NotifyOption,
    ProgressOption,
    RetriesOption,
    ScaleOption,
    SetOption,
    StallOption,
    TargetsOption,
    TrackingOption,
    WorkersOption,
    print_json,
    put,
    say,
)
from orchestrator.errors import require_one_of
from trainables.bounds import INT64_MAX, LARGEST, MOST_SEEDS, MOST_TRIALS, SMALLEST

if TYPE_CHECKING:
    from orchestrator.tuning.search import Search

SpaceArgument = Annotated[
    str, typer.Argument(help="lambda, lr, joint, or a Python file that defines SPACE.")
]


def tune(
    space: SpaceArgument,
    study: Annotated[
        str, typer.Option(help="Study whose source and targets are used.")
    ] = "table2",
    source: Annotated[
        str | None, typer.Option("--source", help="Dataset to pretrain on; the study's first.")
    ] = None,
    targets: TargetsOption = None,
    scale: ScaleOption = None,
    trials: Annotated[
        int,
        typer.Option(min=1, max=MOST_TRIALS, help="In all; those of earlier sessions count."),
    ] = 12,
    sampler: Annotated[str, typer.Option(help="tpe, gp, random, grid or cmaes.")] = "tpe",
    scheduler: Annotated[
        str | None, typer.Option(help="asha, hyperband, median or none; what stops bad trials.")
    ] = None,
    objective: Annotated[str, typer.Option(help="mean or worst-target.")] = "mean",
    seeds: Annotated[
        int, typer.Option(min=1, max=MOST_SEEDS, help="Fine-tunings per target and trial.")
    ] = 2,
    seed: Annotated[int, typer.Option(min=0, max=INT64_MAX, help="Of the sampler.")] = 0,
    low: Annotated[
        float | None,
        typer.Option(min=SMALLEST, max=LARGEST, help="Lower end of the searched range."),
    ] = None,
    high: Annotated[
        float | None, typer.Option(min=SMALLEST, max=LARGEST, help="Upper end.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the search; made from what is searched by default.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Database URL for Optuna; a journal file by default.")
    ] = None,
    overrides: SetOption = None,
    workers: WorkersOption = None,
    address: AddressOption = "local",
    gpu_gb: GpuGbOption = None,
    retries: RetriesOption = 2,
    progress: ProgressOption = "auto",
    notify: NotifyOption = None,
    stall_minutes: StallOption = 30,
    home: HomeOption = DEFAULT_HOME,
    adopt: AdoptOption = False,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search SPACE for what does best on the validation parts of the targets.

    Interrupted, the same command goes on; exit status 130 then (143 by SIGTERM, 129 by a closed
    terminal). Test images are never read.
    """
    from orchestrator.cluster.session.session import devices
    from orchestrator.store.home.fresh_home import no_trace_if_refused
    from orchestrator.store.tracking.server import choose
    from orchestrator.sweep.options import Options
    from orchestrator.sweep.watch.display import KINDS
    from orchestrator.sweep.watch.notify import notifying, receiver
    from orchestrator.tuning.search import make_search
    from orchestrator.verbs.tune import ready, search_and_answer

    require_one_of("--progress", progress, KINDS)
    receivers = [receiver(each) for each in notify or ()]
    path = home.expanduser().absolute()

    def make() -> "Search":
        return make_search(
            space,
            study=study,
            home=path,
            scale=scale,
            source=source,
            targets=targets,
            sampler=sampler,
            scheduler=scheduler,
            objective=objective,
            trials=trials,
            seeds=seeds,
            seed=seed,
            low=low,
            high=high,
            overrides=overrides or (),
            name=name,
        )

    make()  # Wrong input leaves no trace, not even a home folder.
    with no_trace_if_refused(home, adopt=adopt) as opened:
        found = devices(address, workers=workers, gpu_gb=gpu_gb)
        choose(opened, tracking_uri)
        ready(make, opened, say)
    outcome = search_and_answer(
        make(),
        opened,
        storage=storage,
        options=Options(
            address=address,
            workers=workers,
            devices=found,
            retries=retries,
        ),
        progress=progress,
        say=say,
        notify=lambda watched, on_event: notifying(
            receivers, watched, on_event, say, stall_s=stall_minutes * 60
        ),
    )
    if as_json:
        print_json("tune", outcome.record)
    else:
        put(outcome.text)
    raise typer.Exit(outcome.exit_code)
