"""`hdsweep cluster`: files for `ray up` and for Kubernetes."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.commands.common import JsonOption, print_json, say

app = typer.Typer(help="Ray cluster files: validate.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `validate` a verb of its own while it is the only one."""


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="Such as cluster/on_prem.yaml.")],
    as_json: JsonOption = False,
) -> None:
    """Check a cluster YAML, of Ray or KubeRay: its schema, and the mistakes that this lets through.

    Exit status 1 if there is anything to mend.
    """
    from orchestrator import cluster_file, kuberay_file

    kuberay = kuberay_file.is_kuberay(cluster_file.read_cluster_file(file))
    found = (kuberay_file if kuberay else cluster_file).problems(file)
    if kuberay and not kuberay_file.pods_are_checked():
        say("pod templates are checked where kubernetes-validate is installed")
    if as_json:
        print_json({"file": str(file), "problems": found})
    else:
        for problem in found:
            typer.echo(f"{file}: {problem}")
    if not found:
        say(f"{file}: nothing to mend")
    raise typer.Exit(int(bool(found)))
