"""`hdsweep cluster`: the machines of a cluster file, from the machine that one sits at."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.commands.common import JsonOption, print_json, print_rich, put, say
from orchestrator.errors import InputError
from trainables.bounds import LONGEST_WAIT_S

app = typer.Typer(help="Clusters: files for Ray's launcher, sweeps on them.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="Such as cluster/on_prem.yaml.")]
INTERRUPTED = 130


@app.command()
def validate(file: FileArgument, as_json: JsonOption = False) -> None:
    """Check a cluster YAML, of Ray or KubeRay: its schema, and the mistakes that this lets through.

    Exit status 1 if there is anything to mend.
    """
    from orchestrator.cluster.launch import cluster_file, kuberay_file

    kuberay = kuberay_file.is_kuberay(cluster_file.read_cluster_file(file))
    found = (kuberay_file if kuberay else cluster_file).problems(file)
    if kuberay and not kuberay_file.pods_are_checked():
        say("pod templates are checked where kubernetes-validate is installed")
    if as_json:
        print_json("cluster.validate", {"file": str(file), "problems": list(found)})
    else:
        for problem in found:
            put(f"{file}: {problem}")
    if not found:
        say(f"{file}: nothing to mend")
    raise typer.Exit(int(bool(found)))


@app.command()
def up(
    file: FileArgument,
    wait: Annotated[
        float,
        typer.Option(
            min=0, max=LONGEST_WAIT_S, help="Seconds for workers to join, once the head runs."
        ),
    ] = 900,
    restart: Annotated[
        bool, typer.Option("--restart", help="Also if jobs run, which end with Ray.")
    ] = False,
) -> None:
    """Start the machines of FILE, and wait until every worker has joined.

    Exit status 1 if one has not, naming it and the reason; 2 if there is something to mend in FILE.
    """
    from orchestrator.cluster.launch.head import read_cluster
    from orchestrator.cluster.launch.machines import up

    up(read_cluster(file), seconds=wait, restart=restart, say=say)


@app.command()
def submit(
    context: typer.Context,
    file: FileArgument,
    arguments: Annotated[
        list[str], typer.Argument(metavar="-- VERB ...", help="As after `hdsweep`.")
    ],
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow it to its end, or only start it.")
    ] = True,
    name: Annotated[
        str | None, typer.Option(help="Of the job; made from VERB by default.")
    ] = None,
) -> None:
    """Run `hdsweep VERB ...` on the head of FILE's cluster, and show what it prints.

    `--address auto` is added where the verb takes it. Exit status: that of VERB. Ctrl-C leaves it running.
    Paths are those of the head, relative ones from the user's home folder there.
    """
    from orchestrator.cluster.launch import jobs
    from orchestrator.cluster.launch.head import Head, read_cluster

    options = _options_of(context, arguments)
    given = {each.partition("=")[0] for each in arguments}
    if "--address" in options and "--address" not in given:
        arguments = [*arguments, "--address", "auto"]
    head = Head(read_cluster(file))
    job = name or jobs.name_of(arguments, time.time())
    needs_home = "--home" in options and "--home" not in given
    jobs.submit(head, job, arguments, needs_home=needs_home)
    if not wait:
        put(job)
        return
    say(f"job `{job}` runs on {head.address}")
    _follow(file, head, job, until_end=True)


@app.command()
def logs(
    file: FileArgument,
    job: Annotated[str | None, typer.Argument(help="The newest by default.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Until it ends.")] = False,
) -> None:
    """Show what a job has printed.

    With --follow, the exit status is that of the job.
    """
    from orchestrator.cluster.launch import jobs
    from orchestrator.cluster.launch.head import Head, read_cluster

    head = Head(read_cluster(file))
    _follow(file, head, jobs.find(head, job), until_end=follow)


@app.command()
def status(file: FileArgument, as_json: JsonOption = False) -> None:
    """Show the nodes of FILE's cluster, its jobs, and what the autoscaler says."""
    from orchestrator.cluster.launch import jobs
    from orchestrator.cluster.launch.head import Head, read_cluster

    found = jobs.status(Head(read_cluster(file)))
    if as_json:
        print_json("cluster.status", found)
        return
    print_rich(_nodes_table(found["nodes"]))
    print_rich(_jobs_table(found["jobs"]) if found["jobs"] else "no job was submitted")
    put(found["autoscaler"])


@app.command()
def down(file: FileArgument) -> None:
    """Stop Ray on the machines of FILE, or end them where they are a cloud's."""
    from orchestrator.cluster.launch.head import read_cluster
    from orchestrator.cluster.launch.machines import down

    down(read_cluster(file), say)


def _options_of(context: typer.Context, arguments: list[str]) -> set[str]:
    """Return the options of the verb that arguments begin with.

    Raises:
        InputError: if there is no such verb.
    """
    command: Any = context.find_root().command
    for word in arguments:
        if not hasattr(command, "commands"):
            break
        if word not in command.commands:
            known = ", ".join(command.commands)
            raise InputError(f"hdsweep has no verb `{word}`", hint=f"one of {known}")
        command = command.commands[word]
    return {option for parameter in command.params for option in parameter.opts}


def _follow(file: Path, head: Any, job: str, *, until_end: bool) -> None:
    """Print what a job prints, and leave with its exit status."""
    from orchestrator.cluster.launch import jobs

    def out(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        end = jobs.follow(head, job, out, say, until_end=until_end)
    except KeyboardInterrupt:
        say(f"job `{job}` goes on: `hdsweep cluster logs {file} {job} --follow` shows it")
        raise typer.Exit(INTERRUPTED) from None
    if until_end and end.state != "SUCCEEDED":
        say(f"job `{job}`: {end.state}: {end.why.strip()}")
    raise typer.Exit(end.status if until_end else 0)


def _nodes_table(nodes: list[dict[str, Any]]) -> Any:
    from orchestrator.cluster.launch.machines import resources

    table = _table("node", "resources")
    for node in nodes:
        table.add_row(f"{node['address']}{' (head)' if node['head'] else ''}", resources(node))
    return table


def _jobs_table(found: list[dict[str, Any]]) -> Any:
    table = _table("job", "state", "exit", "started (UTC)")
    for job in found:
        started = time.gmtime((job["started_ms"] or 0) / 1000)
        code = "" if job["exit"] is None else str(job["exit"])
        table.add_row(job["job"], job["state"], code, time.strftime("%Y-%m-%d %H:%M:%S", started))
    return table


def _table(*columns: str) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE)
    for column in columns:
        table.add_column(column)
    return table
