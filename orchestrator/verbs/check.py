"""`hdsweep check METHOD`: does a method of your own keep what the sweep relies on?

A study of one cell on generated data, a few updates at smoke scale, trained here and now.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import InputError, UnknownNameError
from orchestrator.plan.plan import Plan, load_plan
from orchestrator.process.private_folder import private_folder
from orchestrator.store.home.home import Home, open_home
from orchestrator.verbs.run import ready_plan
from trainables.methods import Method, MethodFileError, add_method_file, all_methods

if TYPE_CHECKING:
    from trainables.contract import Finding

SETTINGS = ("pretraining.updates=2", "fine_tuning.max_epochs=2", "ledm.max_iterations=2")


@dataclass(frozen=True)
class Checked:
    """What was found about one run of a method."""

    run: str
    finding: "Finding"


def methods_of(name: str) -> tuple[Method, ...]:
    """Return a method by its name, or those of a Python file.

    Raises:
        InputError: if there is no such method, or the file cannot be used.
    """
    if name.endswith(".py"):
        try:
            return add_method_file(Path(name))
        except MethodFileError as error:
            raise InputError(str(error)) from error
    if name not in all_methods():
        raise UnknownNameError("method", name, all_methods(), where="METHOD")
    return (all_methods()[name],)


def check_method(method: Method, folder: Path) -> Iterator[Checked]:
    """Train a method's runs in a folder, and yield what is found about each, as it is found.

    Ends with the first run that does not keep a promise: the next would start from it.
    """
    from trainables.contract import check_run
    from trainables.loop import Places

    home = open_home(folder / "home")
    plan = ready_plan(lambda: _plan(method, folder, home), home, lambda _: None)
    left: dict[str, Path] = {}
    for run in plan.runs:
        assert run.dataset_folder is not None
        places = Places(
            dataset=run.dataset_folder,
            checkpoints=folder,
            artifacts=folder,
            pretrained=left[run.needs] if run.needs else None,
            code=run.code,
        )
        kept = True
        for finding in check_run(run.spec, places, folder / run.key):
            kept = finding.kept
            yield Checked(run.label, finding)
        if not kept:
            return
        left[run.key] = folder / run.key / "straight" / "artifacts"


def checked(name: str) -> Iterator[tuple[Method, Checked]]:
    """Check a method, or each of a file, in a temporary folder."""
    for method in methods_of(name):
        with private_folder("checking", Path(tempfile.gettempdir())) as folder:
            for each in check_method(method, folder):
                yield method, each


def _plan(method: Method, folder: Path, home: Home) -> Plan:
    """Return the plan of one cell on generated data; random weights where it wants ImageNet's."""
    study = folder / "check.toml"
    study.write_text(
        f'title = "check"\nseeds = [0]\nmethods = [{json.dumps(method.name)}]\n'
        'scale = "smoke"\n[sources.isic2018]\ntargets = ["ph2"]\n',
        encoding="utf-8",
    )
    wanted = [s for s in SETTINGS if method.pretraining or not s.startswith("pretraining")]
    return load_plan(str(study), home=home.path, overrides=wanted)
