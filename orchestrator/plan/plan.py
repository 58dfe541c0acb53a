"""From a study to its runs: a DAG of run specs, each pretraining once however many cells use it.

A pure function of the study, the scale, the filters, the overrides, and of which datasets and
weights lie in the home folder. Nothing is trained or stored, and no torch, Ray or MLflow imported:
a plan of the paper's table takes a fraction of a second on a machine that has none of its data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.errors import InputError
from orchestrator.plan.backbones import BACKBONES
from orchestrator.plan.comparable import NO_PAPER, Row, why_not_comparable
from orchestrator.plan.identity import Change, Identity, Pairs, changes_of, digest_of, subset_of
from orchestrator.plan.specs import PlannedDataset, Specs
from orchestrator.study.recipe import Recipe, recipe_of
from orchestrator.study.resolved import resolved_settings
from orchestrator.study.scale import Scale
from orchestrator.study.selection import Filters, Written, narrow
from orchestrator.study.settings import Layer, overruled, set_layer
from orchestrator.study.study import Study
from trainables.config import RunSpec
from trainables.methods import Method, all_methods, groups
from trainables.methods.random_backbone import INSTEAD_OF

NOBODYS = Identity("", "", (), "")


class Cell(NamedTuple):
    """One number of a table, before seeds are averaged."""

    method: str
    target: str
    seed: int


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan. Source and target are called as in the study, also for stand-ins."""

    spec: RunSpec
    key: str
    label: str
    """For people: `hybrid_ft ph2 seed 1`, `pretrain hybrid isic2018-like`; unique in a plan."""
    methods: tuple[str, ...]
    """The methods it is needed by; a single one for a fine-tuning."""
    source: str | None
    target: str | None
    """None for a pretraining."""
    seed: int
    needs: str | None = None
    """Key of the pretraining that has to be finished first."""
    dataset_folder: Path | None = None
    """None while the dataset is not prepared."""
    needs_backbone: str | None = None
    """Name of the ImageNet weights that the run loads, whether or not they are there."""
    backbone: Path | None = None
    """File of these weights; None while they are not in the home folder."""
    code: Path | None = None
    """Folder of the file that defines the method, where it is not one of ours."""
    varied: Pairs = ()
    """What the user set besides study and scale, as far as it is in this run: short path and value."""

    @property
    def name(self) -> str:
        """The label, and what was set besides: the runs of two sweeps are told apart by it."""
        return "".join([self.label, *(f", {path}={value}" for path, value in self.varied)])

    @property
    def pretraining(self) -> bool:
        """Whether this run is a pretraining."""
        return self.spec.stage == "pretraining"


@dataclass(frozen=True)
class Plan:
    """The runs of a study, pretrainings first, each after the one it needs."""

    study: str
    scale: str
    title: str
    runs: tuple[PlannedRun, ...]
    methods: tuple[str, ...]
    targets: tuple[str, ...]
    seeds: tuple[int, ...]
    table: Mapping[Cell, str]
    """Key of the fine-tuning of each cell."""
    source_of: Mapping[str, str | None]
    """Source of each target, as the study says."""
    datasets: tuple[PlannedDataset, ...]
    paper: str | None = None
    """The paper that the study reproduces, as its file says; None for a study of one's own."""
    not_comparable: tuple[str, ...] = ()
    """Why the numbers must not be compared with the paper's; empty if they may be."""
    other_weights: Mapping[str, str] = field(default_factory=dict)
    """Methods that start from other than the published ImageNet weights, with the SHA-256 of the
    file that these were: their rows must not be compared with the paper's."""
    notes: tuple[str, ...] = ()
    """Settings of the study that the scale overrules."""
    tuned: tuple[str, ...] = ()
    """What was taken from searches, a sentence each; it stands under the table."""
    identity: Identity = NOBODYS
    """Which sweep it is, or is a part of."""
    study_seeds: tuple[int, ...] = ()
    """All that the study lists, filters apart."""
    recipe: Recipe | None = None
    """What the user wrote; None for a plan that was made of parts."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All settings, resolved: see `resolved_settings`."""

    @property
    def comparable(self) -> bool:
        """Whether the results may be held against the paper's."""
        return not self.not_comparable

    @property
    def generated(self) -> bool:
        """Whether any image is made by a program: then every output says so."""
        return any(dataset.ref.generated for dataset in self.datasets)

    @property
    def without_imagenet(self) -> bool:
        """Whether any network should start from ImageNet weights and starts from random ones."""
        return any(run.spec.without_imagenet for run in self.runs)

    @property
    def lacking_weights(self) -> Mapping[str, tuple[str, ...]]:
        """The methods of runs whose ImageNet weights are not there, by the name of the weights."""
        lacking: dict[str, dict[str, None]] = {}
        for run in self.runs:
            if run.needs_backbone and run.backbone is None:
                lacking.setdefault(run.needs_backbone, {}).update(dict.fromkeys(run.methods))
        return {name: tuple(methods) for name, methods in lacking.items()}

    @cached_property
    def named(self) -> Mapping[str, PlannedDataset]:
        """The datasets by what the study calls them; each says what people are to read instead."""
        return {dataset.name: dataset for dataset in self.datasets}

    @cached_property
    def by_key(self) -> Mapping[str, PlannedRun]:
        """The runs by their keys."""
        return {run.key: run for run in self.runs}


def load_plan(
    study: str,
    *,
    scale: str | None = None,
    home: Path | None = None,
    methods: Written = None,
    targets: Written = None,
    seeds: Written = None,
    overrides: Sequence[str] = (),
    allow_random_backbone: bool = False,
    from_tune: str | None = None,
) -> Plan:
    """Return the plan of a study; what every command starts with.

    Args:
        study: name of one of our studies, or path of a study file.
        scale: name of one of our scales, or path of a scale file; the study's own by default.
        home: folder where prepared datasets and weights are looked for; None plans without any.
        methods, targets, seeds: filters, such as `hybrid_ft,baselines`.
        overrides: `path.to.field=value`, the arguments of `--set`.
        allow_random_backbone: run ImageNet rows whose weights are missing from random ones, as rows
            of other names.
        from_tune: name of a search whose answer the study takes.

    Raises:
        InputError: if anything the user wrote is wrong; nothing was done.
    """
    recipe = recipe_of(
        study,
        scale=scale,
        home=home,
        methods=methods,
        targets=targets,
        seeds=seeds,
        overrides=overrides,
        allow_random_backbone=allow_random_backbone,
        from_tune=from_tune,
    )
    return plan_of(recipe, home)


def plan_of(recipe: Recipe, home: Path | None = None) -> Plan:
    """Return the plan of what a user wrote, be it just now or when a sweep was stored.

    Raises:
        InputError: if it is wrong, or what it names is gone.
    """
    study, told = recipe.study(home)
    plan = make_plan(
        study,
        recipe.scale(),
        home=home,
        filters=recipe.filters,
        overrides=set_layer(recipe.overrides),
        allow_random_backbone=recipe.random_backbone,
    )
    return replace(plan, tuned=told, recipe=recipe)


def whole_of(plan: Plan, home: Path | None = None, *, seeds: Sequence[int] = ()) -> Plan:
    """Return the plan that a plan is a part of, filters left out; itself if it is the whole.

    Args:
        seeds: those that a stored table has besides: a study that lists fewer of them by now loses none.

    Raises:
        InputError: if the rows that were left out cannot be planned.
    """
    more = [seed for seed in seeds if seed not in plan.study_seeds]
    if plan.recipe is None or not (plan.identity.subset or more):
        return plan
    recipe = replace(plan.recipe, methods=None, targets=None, seeds=None)
    study, told = recipe.study(home)
    found = make_plan(
        replace(study, seeds=(*study.seeds, *more)),
        recipe.scale(),
        home=home,
        overrides=set_layer(recipe.overrides),
        allow_random_backbone=recipe.random_backbone,
    )
    return replace(found, tuned=told, recipe=recipe)


def make_plan(
    study: Study,
    scale: Scale,
    *,
    home: Path | None = None,
    filters: Filters | None = None,
    overrides: Layer | None = None,
    allow_random_backbone: bool = False,
) -> Plan:
    """Return the runs that a study needs at a scale.

    Raises:
        InputError: if a filter leaves nothing, or settings do not fit together or to the data.
    """
    filters, overrides = filters or Filters(), overrides or set_layer(())
    specs = Specs(study, [scale.layer, overrides], home)
    methods, targets, seeds = _selected(study, filters)
    every = study.methods
    if allow_random_backbone:
        instead = {m: INSTEAD_OF[m] for m in study.methods if _lacks_weights(specs, m, methods)}
        methods, every = (tuple(instead.get(m, m) for m in some) for some in (methods, every))
    identity, changes = _identity(study, scale, specs, every, overrides)
    whole = (every, study.targets, study.seeds)
    identity = replace(identity, subset=subset_of(methods, targets, seeds, of=whole))
    pretrainings: dict[str, PlannedRun] = {}
    fine_tunings: dict[Cell, PlannedRun] = {}
    for method in (all_methods()[name] for name in methods):
        for target in targets:
            source = study.source_of[target] if method.pretraining else None
            needs = None
            if source is not None:
                needs = pretraining_run(specs, method, source, pretrainings)
                pretrainings[needs.key] = needs
            for seed in seeds:
                cell = Cell(method.name, target, seed)
                fine_tunings[cell] = fine_tuning_run(specs, method, cell, needs)
    runs = [*_distinctly_labelled(list(pretrainings.values())), *fine_tunings.values()]
    runs = [replace(run, varied=_varied(run, changes)) for run in runs] if changes else runs
    datasets = tuple(specs.datasets.values())
    by_row = {Row(run.methods[0], run.source, run.target): run.spec for run in runs}
    return Plan(
        study=study.name,
        scale=scale.name,
        title=study.title,
        runs=in_order(runs),
        methods=methods,
        targets=targets,
        seeds=seeds,
        table={cell: run.key for cell, run in fine_tunings.items()},
        source_of={target: study.source_of[target] for target in targets},
        datasets=datasets,
        paper=study.paper,
        not_comparable=why_not_comparable(by_row, datasets) if study.paper else (NO_PAPER,),
        other_weights={
            method: origin.sha256
            for method in methods
            if (origin := specs.origin_of_weights(method)) and not origin.published
        },
        notes=_notes(study, scale),
        identity=identity,
        study_seeds=study.seeds,
        settings=resolved_settings(study, [scale.layer, overrides]),
    )


def _lacks_weights(specs: Specs, method: str, selected: Sequence[str]) -> bool:
    try:
        return specs.lacks_weights(method)
    except InputError:
        if method in selected:
            raise
        return False  # A row that is not looked at need not work.


def _identity(
    study: Study, scale: Scale, specs: Specs, methods: Sequence[str], overrides: Layer
) -> tuple[Identity, tuple[Change, ...]]:
    """Return which sweep it is, filters apart, and what was set besides study and scale."""
    plain = Specs(study, [scale.layer], None)
    rows = {
        (method, study.source_of[target] if method.pretraining else None, target): specs.settings(
            method.name, study.source_of[target] if method.pretraining else None, target
        )
        for method in (all_methods()[name] for name in methods)
        for target in study.targets
    }
    paths = list(overrides.leaves)
    before = (
        [plain.settings(m.name, source, target) for m, source, target in rows] if paths else []
    )
    after = list(rows.values()) if paths else []
    changes = changes_of(before, after, paths, study.tuned)
    pairs = tuple(change.pair for change in changes)
    digest = digest_of(study.name, scale.name, rows, study.pretraining_seed)
    return Identity(study.name, scale.name, pairs, digest), changes


def _varied(run: PlannedRun, changes: Sequence[Change]) -> Pairs:
    """Return what was set besides study and scale, as far as it is in this run or its pretraining."""
    methods = [all_methods()[name] for name in run.methods]
    return tuple(
        change.pair
        for change in changes
        if any(change.concerns(m, run.source, pretraining=run.pretraining) for m in methods)
    )


def in_order(runs: Sequence[PlannedRun]) -> tuple[PlannedRun, ...]:
    """Return the runs such that each stands after the one it needs, otherwise as they came.

    Raises:
        InputError: if two runs are one and the same, if a run needs one that is not planned, or if
            runs need each other in a circle.
    """
    by_key = {run.key: run for run in runs}
    for run in runs:
        if by_key[run.key] is not run:
            raise InputError(f"`{run.label}` and `{by_key[run.key].label}` are the same run")
        if run.needs is not None and run.needs not in by_key:
            raise InputError(f"`{run.label}` needs run {run.needs}, which nothing provides")
    ordered: dict[str, PlannedRun] = {}
    waiting = list(runs)
    while waiting:
        ready = [run for run in waiting if run.needs is None or run.needs in ordered]
        if not ready:
            labels = ", ".join(f"`{run.label}`" for run in waiting)
            raise InputError(f"these runs need each other in a circle: {labels}")
        ordered |= {run.key: run for run in ready}
        waiting = [run for run in waiting if run.key not in ordered]
    return tuple(ordered.values())


def require_ready(plan: Plan) -> None:
    """Raise an InputError that names every dataset and every file of weights that is missing."""
    datasets = [each for each in plan.datasets if not each.prepared]
    lacking = plan.lacking_weights
    backbones = [each for each in BACKBONES.values() if each.name in lacking]
    if not datasets and not backbones:
        return
    missing, hints = [], []
    if datasets:
        missing.append(f"the prepared datasets {', '.join(each.ref.name for each in datasets)}")
        hints.append("prepare each with `hdsweep data prepare NAME`")
    if backbones:
        missing.append(f"the ImageNet weights {', '.join(each.name for each in backbones)}")
        names = " and ".join(f"`hdsweep weights fetch {each.name}`" for each in backbones)
        hints.append(
            f"get them with {names}, or `import` a file; or run these rows from random weights, "
            "under other names, with --allow-random-backbone"
        )
    raise InputError(
        f"study `{plan.study}` at scale {plan.scale} lacks {' and '.join(missing)}",
        hint="; ".join([*hints, "`--scale demo` needs neither"]),
    )


def _selected(
    study: Study, filters: Filters
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
    methods = narrow(
        "method",
        study.methods,
        filters.methods,
        study=study.name,
        vocabulary=all_methods(),
        groups=groups(),
    )
    targets = narrow(
        "target", study.targets, filters.targets, study=study.name, vocabulary=study.datasets
    )
    seeds = narrow("seed", [str(seed) for seed in study.seeds], filters.seeds, study=study.name)
    return methods, targets, tuple(int(seed) for seed in seeds)


def pretraining_run(
    specs: Specs,
    method: Method,
    source: str,
    planned: Mapping[str, PlannedRun],
) -> PlannedRun:
    """Return the pretraining of a method, which may be one that methods planned before share."""
    spec = specs.pretraining(method, source)
    key = spec.key
    before = planned[key].methods if key in planned else ()
    network = "" if method.network == "adm" else f"{method.network} "
    return PlannedRun(
        spec=spec,
        key=key,
        label=f"pretrain {method.pretraining} {network}{specs.datasets[source].shown}",
        methods=tuple(dict.fromkeys([*before, method.name])),
        source=source,
        target=None,
        seed=spec.seed,
        dataset_folder=specs.datasets[source].folder,
        needs_backbone=specs.backbone_name(spec),
        backbone=specs.backbone_file(spec),
        code=method.code,
    )


def fine_tuning_run(
    specs: Specs, method: Method, cell: Cell, needs: PlannedRun | None
) -> PlannedRun:
    """Return one cell of the table, which starts from the pretraining that it needs."""
    spec = specs.fine_tuning(
        method,
        cell.target,
        cell.seed,
        pretraining=(needs.key, needs.spec) if needs else None,
        source=needs.source if needs else None,
    )
    return PlannedRun(
        spec=spec,
        key=spec.key,
        label=f"{method.name} {specs.datasets[cell.target].shown} seed {cell.seed}",
        methods=(method.name,),
        source=needs.source if needs else None,
        target=cell.target,
        seed=cell.seed,
        needs=needs.key if needs else None,
        dataset_folder=specs.datasets[cell.target].folder,
        needs_backbone=specs.backbone_name(spec),
        backbone=specs.backbone_file(spec),
        code=method.code,
    )


def _distinctly_labelled(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Return the pretrainings with their methods in those labels that would be ambiguous."""
    labels = [run.label for run in runs]
    return [
        run
        if labels.count(run.label) == 1
        else replace(run, label=f"{run.label} for {' and '.join(run.methods)}")
        for run in runs
    ]


def _notes(study: Study, scale: Scale) -> tuple[str, ...]:
    particular = (study.by_source, study.by_target, study.by_method)
    layers = [study.general, *(each for named in particular for each in named.values())]
    return overruled(layers, scale.layer, title=f"scale {scale.name}")
