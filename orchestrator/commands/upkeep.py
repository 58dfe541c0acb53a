"""`hdsweep reconcile`, `ui`, `doctor`: the home folder and the machine."""

import os
from typing import Annotated

import typer

from orchestrator.commands.common import (
    DEFAULT_HOME,
    HomeOption,
    JsonOption,
    TrackingOption,
    print_json,
    print_rich,
    put,
    say,
)
from orchestrator.store.home.home import Home, open_home
from orchestrator.verbs.asked import require_home


def reconcile(
    home: HomeOption = DEFAULT_HOME,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Make the database anew from the stored artifacts."),
    ] = False,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the database and the folders together after a crash; `run` does so too."""
    from orchestrator.store.home.fresh_home import no_trace_if_refused
    from orchestrator.store.store import Store
    from orchestrator.store.tracking.server import choose
    from orchestrator.verbs.rebuild import Rebuilt
    from orchestrator.verbs.rebuild import rebuild as rebuild_database

    was_there = os.path.exists(home)
    with no_trace_if_refused(home) as opened:
        if not was_there and tracking_uri is None:
            require_home(opened)
    if rebuild:
        made = rebuild_database(opened, tracking_uri, say)
        say(f"the database was made anew from {made.runs} stored runs")
        for name in made.sweeps:
            say(f"sweep `{name}`: table, page and means derived again")
        for name in made.searches:
            say(f"search `{name}`: recorded again")
        if as_json:
            print_json(
                "reconcile", {"rebuilt": True, "stored": made.runs, "runs": [], **made.names()}
            )
        return
    choose(opened, tracking_uri)
    with Store.open(opened, say) as store:
        if store.moved:
            say(store.moved)
        if as_json:
            runs = [{"key": key, "what": what} for key, what in store.reconciled.items()]
            names = Rebuilt.of(store).names()
            stored = len(store.finished())
            print_json("reconcile", {"rebuilt": False, "stored": stored, "runs": runs, **names})
            return
        for key, what in store.reconciled.items():
            say(f"run {key}: {what}")
        say(f"{len(store.finished())} runs are stored, {len(store.reconciled)} were put in order")


def ui(
    home: HomeOption = DEFAULT_HOME,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    host: Annotated[str, typer.Option(help="A loopback address; tunnel to it.")] = "127.0.0.1",
    open_browser: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
) -> None:
    """Serve the MLflow UI over everything stored, on this machine only."""
    from orchestrator.verbs.ui import serve

    opened = Home(home.expanduser().absolute())
    ended = serve(opened.path, port=port, host=host, open_browser=open_browser, tell=put, say=say)
    raise typer.Exit(ended)


def doctor(
    home: HomeOption = DEFAULT_HOME,
    address: Annotated[
        str, typer.Option(help="Ray cluster each of whose nodes is asked too; auto on its head.")
    ] = "local",
    as_json: JsonOption = False,
) -> None:
    """Check whether this machine is ready. Exit status 1 if something has to be mended."""
    from dataclasses import asdict

    from orchestrator.verbs.doctor import diagnose, diagnose_nodes, render

    checks = diagnose(home.expanduser().absolute())
    if address != "local":
        checks += diagnose_nodes(open_home(home), address)
    if as_json:
        ok = not any(check.status == "fail" for check in checks)
        print_json("doctor", {"ok": ok, "checks": [asdict(check) for check in checks]})
    else:
        print_rich(render(checks))
    raise typer.Exit(int(any(check.status == "fail" for check in checks)))
