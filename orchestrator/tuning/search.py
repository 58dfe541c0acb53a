"""What a search is: a space, a source and its targets, a scale, a sampler, a stopping rule, an aim."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from orchestrator.errors import InputError, UnknownNameError, require_one_of
from orchestrator.plan.plan import Cell, PlannedRun, fine_tuning_run, pretraining_run
from orchestrator.plan.specs import Specs
from orchestrator.study.scale import Scale, load_scale
from orchestrator.study.selection import refuse_repeated
from orchestrator.study.settings import Layer, set_layer
from orchestrator.study.study import Study, load_study
from search_spaces import SearchSpace, SpaceError, all_spaces, load_space
from trainables.bounds import INT64_MAX
from trainables.config import PretrainingConfig
from trainables.methods import Method, all_methods

Sampler = Literal["tpe", "gp", "random", "grid", "cmaes"]
Scheduler = Literal["asha", "hyperband", "median", "none"]
Objective = Literal["mean", "worst-target"]

REDUCTION = 3  # From rung to rung the budget grows by this factor.
RUNGS = 3
SEED_OFFSET = 1000  # Tuning seeds start here, or above the study's own where those are higher.
METHOD = "hybrid_ft"
VALIDATION = "finetune_validation"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")  # It becomes the name of a file.


@dataclass(frozen=True, kw_only=True)
class Search:
    """A checked search."""

    space: SearchSpace
    study: Study
    scale: Scale
    source: str
    targets: tuple[str, ...]
    sampler: Sampler
    scheduler: Scheduler
    objective: Objective
    trials: int
    """Trials to make in all; those of earlier sessions count."""
    seeds: tuple[int, ...]
    """Tuning seeds, disjoint from the table's."""
    seed: int
    """Of the sampler."""
    overrides: tuple[str, ...]
    home: Path
    given_name: str | None = None
    budgets: tuple[int, ...] = field(default=())
    """Updates of the pretraining at each rung, the last being the whole of it; empty if the space
    has no pretraining of its own."""

    @property
    def rungs(self) -> int:
        """How often a trial is looked at before it is complete, that look included."""
        return max(1, len(self.budgets))

    def step(self, rung: int) -> int:
        """Return what Optuna knows a rung by: its budget in units of the first one's."""
        return int(REDUCTION**rung)

    @cached_property
    def name(self) -> str:
        """Name of the search, by what is searched and on what; two searches never share one."""
        if self.given_name:
            return self.given_name
        targets = "+".join(self.targets)
        return f"{self.space.name}-{self.source}-{targets}-{self.scale.name}-{self.fingerprint}"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides what a trial's value is."""
        pretraining, fine_tunings = self.runs(self.space.reference, self.rungs - 1)
        content = {
            "space": self.space.fingerprint,
            "objective": self.objective,
            "runs": [pretraining.key, *(run.key for run in fine_tunings)],
        }
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]

    @cached_property
    def shown(self) -> Mapping[str, str]:
        """What people read of the source and of each target, by its name in the study."""
        pretraining, fine_tunings = self.runs(self.space.reference, self.rungs - 1)
        names = {str(run.target): run.spec.dataset.name for run in fine_tunings}
        return {self.source: pretraining.spec.dataset.name, **names}

    @property
    def title(self) -> str:
        """What is searched, and on what."""
        return f"{self.space.title}: {self.pair}"

    @property
    def pair(self) -> str:
        """The source and the targets, for people."""
        return f"{self.shown[self.source]} to {', '.join(self.shown[t] for t in self.targets)}"

    @cached_property
    def generated(self) -> bool:
        """Whether any image is made by a program: then every output says so."""
        pretraining, fine_tunings = self.runs(self.space.reference, self.rungs - 1)
        return any(run.spec.dataset.generated for run in (pretraining, *fine_tunings))

    def settings(self, values: dict[str, float] | object) -> list[str]:
        """Return the `path=value` of each parameter."""
        assert isinstance(values, dict)
        return [f"{self.space.settings[name]}={value!r}" for name, value in values.items()]

    def runs(self, values: object, rung: int) -> tuple[PlannedRun, tuple[PlannedRun, ...]]:
        """Return the pretraining and the fine-tunings of a trial at a rung.

        Args:
            values: of the parameters, by name.
        """
        flags = self.settings(dict(values))  # type: ignore[call-overload]
        if self.budgets:
            flags.append(f"pretraining.updates={self.budgets[rung]}")
        upper: list[Layer] = [self.scale.layer, set_layer(self.overrides), set_layer(flags)]
        specs = Specs(self.study, upper, self.home)
        method = _tuned(all_methods()[METHOD])
        pretraining = pretraining_run(specs, method, self.source, {})
        named = ", ".join(f"{name} {value:.3g}" for name, value in dict(values).items())  # type: ignore[call-overload]
        budget = f", {self.budgets[rung]} updates" if self.budgets else ""
        pretraining = replace(pretraining, label=f"{pretraining.label}, {named}{budget}")
        fine_tunings = (
            fine_tuning_run(specs, method, Cell(METHOD, target, seed), pretraining)
            for target in self.targets
            for seed in self.seeds
        )
        return pretraining, tuple(
            replace(run, label=f"{run.label}, {named}{budget}") for run in fine_tunings
        )


def make_search(
    space: str,
    *,
    study: str,
    home: Path,
    scale: str | None = None,
    source: str | None = None,
    targets: str | None = None,
    sampler: str = "tpe",
    scheduler: str | None = None,
    objective: str = "mean",
    trials: int = 12,
    seeds: int = 2,
    seed: int = 0,
    low: float | None = None,
    high: float | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
) -> Search:
    """Return a search from what a user wrote.

    Raises:
        InputError: if anything of it does not exist or does not go together.
    """
    known = _space(space, low, high)
    checked = load_study(study, home)
    require_one_of("--sampler", sampler, get_args(Sampler))
    require_one_of("--objective", objective, get_args(Objective))
    chosen = scheduler or ("asha" if known.pretrains else "none")
    require_one_of("--scheduler", chosen, get_args(Scheduler))
    if name is not None and not NAME.fullmatch(name):
        raise InputError(
            f"--name {name}: letters, digits and . _ + - only, a letter or digit first"
        )
    if trials < 1:
        raise InputError(f"--trials {trials}: a search has at least one")
    if sampler == "grid":
        _check_grid(known)
    if not known.pretrains and chosen != "none":
        raise InputError(
            f"space `{known.name}` shares one pretraining, there is nothing for --scheduler "
            f"{chosen} to cut short",
            hint="--scheduler none",
        )
    where = _source(checked, source)
    first_seed = max(SEED_OFFSET, max(checked.seeds) + 1)
    if first_seed + seeds - 1 > INT64_MAX:
        raise InputError(
            f"seed {max(checked.seeds)} of study `{checked.name}` leaves no room for {seeds} tuning "
            f"seeds above it: the largest is {INT64_MAX}"
        )
    search = Search(
        space=known,
        study=checked,
        scale=load_scale(scale or checked.scale),
        source=where,
        targets=_targets(checked, where, targets),
        sampler=sampler,  # type: ignore[arg-type]
        scheduler=chosen,  # type: ignore[arg-type]
        objective=objective,  # type: ignore[arg-type]
        trials=trials if sampler != "grid" else min(trials, _grid_size(known)),
        seeds=tuple(range(first_seed, first_seed + seeds)),
        seed=seed,
        overrides=tuple(overrides),
        home=home,
        given_name=name,
    )
    if known.pretrains:
        search = replace(search, budgets=_budgets(search))
    return search


def _space(name: str, low: float | None, high: float | None) -> SearchSpace:
    try:
        if name.endswith(".py"):
            return load_space(Path(name)).within(low, high)
        if name not in all_spaces():
            raise UnknownNameError("search space", name, all_spaces(), where="SPACE")
        return all_spaces()[name].within(low, high)
    except SpaceError as error:
        raise InputError(str(error)) from error


def _check_grid(space: SearchSpace) -> None:
    hint = "tpe, gp, random and cmaes search ranges"
    if space.grid is None:
        raise InputError(
            f"space `{space.name}` is continuous and has no grid for --sampler grid", hint=hint
        )
    for name, values in space.grid.items():
        if not values:
            raise InputError(f"no value of the grid of {name} lies between the bounds", hint=hint)


def _grid_size(space: SearchSpace) -> int:
    size = 1
    for values in (space.grid or {}).values():
        size *= len(values)
    return size


def _source(study: Study, source: str | None) -> str:
    sources = [each for each in dict.fromkeys(study.source_of.values()) if each]
    if source is None:
        return sources[0]
    if source not in sources:
        raise UnknownNameError("source", source, sources, where=f"--source {source}")
    return source


def _targets(study: Study, source: str, written: str | None) -> tuple[str, ...]:
    own = tuple(target for target, of in study.source_of.items() if of == source)
    if written is None:
        return own
    wanted = [name.strip() for name in written.split(",") if name.strip()]
    for name in wanted:
        if name not in own:
            raise InputError(
                f"target `{name}` does not belong to the source `{source}`",
                hint=f"its targets are {', '.join(own)}",
            )
    if not wanted:
        raise InputError(f"--targets {written} names no target")
    refuse_repeated("target", wanted, where=f"--targets {written}")
    return tuple(target for target in own if target in wanted)


def _tuned(method: Method) -> Method:
    """Return the method, scored on the validation part."""
    return replace(method, adaptation=VALIDATION)


def _budgets(search: Search) -> tuple[int, ...]:
    """Return the updates of each rung: thirds of thirds of the whole, in steps of the log.

    In those steps, since only there is a run that goes on the same, logged means included, as one that
    was never looked at.
    """
    probe, _ = replace(search, budgets=()).runs(search.space.reference, 0)
    training = probe.spec.training
    assert isinstance(training, PretrainingConfig)
    whole, unit = training.updates, training.log_every
    if search.scheduler == "none":
        return (whole,)
    cut = (round(whole / REDUCTION**k / unit) * unit for k in range(RUNGS - 1, 0, -1))
    return (*sorted({each for each in cut if 0 < each < whole}), whole)
