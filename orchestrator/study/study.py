"""A study file: which methods, which sources and targets, which seeds, and what differs.

All checking of what a user wrote in it happens here, before anything is planned. Datasets keep the
names of the study throughout; whether a generated stand-in takes their place is the scale's.

    title = "Table 2"
    seeds = [0, 1, 2]
    methods = "all"                                 # or a list of methods and groups
    method_files = ["my_method.py"]                 # beside this file: methods of your own

    [sources.isic2018]                              # pretrained on once per task and network
    targets = ["ph2", "dermis"]

    [sources.celebamask_hq.pretraining]             # for one source
    [targets.ph2.fine_tuning]                       # for one target; also `ledm`
    [overrides.hybrid_ft.pretraining]               # for one method; also the other tables
    [pretraining] [fine_tuning] [ledm] [networks.adm] [compute] [data]      # for all

A target that has a table of its own but stands under no source can be used by methods without
pretraining.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from orchestrator.errors import InputError, UnknownNameError
from orchestrator.study.checking import Place, Tree, check, find_file, parse_toml, read_text
from orchestrator.study.scale import scale_names
from orchestrator.study.selection import method_names, refuse_repeated, split_names
from orchestrator.study.settings import Layer, Settings, layer
from trainables.bounds import LONGEST_LIST, MOST_SEEDS, Seed
from trainables.config import Frozen
from trainables.data.datasets import known_datasets
from trainables.data.errors import DatasetError
from trainables.data.info import DatasetInfo, Role
from trainables.methods import Method, MethodFileError, add_method_file, all_methods

FOLDER = Path(__file__).parent / "studies"
DEFAULT_SCALE = "paper"

Names = Annotated[tuple[str, ...], Field(max_length=LONGEST_LIST)]
Table = dict[str, Any]
"""Settings, checked as a layer of the whole tree once it is known what they are for."""

PAPER = "arXiv:2408.03433"  # The one whose published numbers we have.


class _SourceTable(Frozen):
    targets: Names
    pretraining: Table = Field(default_factory=dict)


class _TargetTable(Frozen):
    fine_tuning: Table = Field(default_factory=dict)
    ledm: Table = Field(default_factory=dict)


class _OverrideTable(Frozen):
    networks: Table = Field(default_factory=dict)
    pretraining: Table = Field(default_factory=dict)
    fine_tuning: Table = Field(default_factory=dict)
    ledm: Table = Field(default_factory=dict)


class _StudyFile(Frozen):
    title: str
    paper: str | None = None
    seeds: Annotated[tuple[Seed, ...], Field(max_length=MOST_SEEDS)]
    methods: Annotated[Names, BeforeValidator(split_names)]
    method_files: Names = ()
    scale: str = DEFAULT_SCALE
    pretraining_seed: Seed = 0
    sources: dict[str, _SourceTable] = Field(default_factory=dict)
    targets: dict[str, _TargetTable] = Field(default_factory=dict)
    overrides: dict[str, _OverrideTable] = Field(default_factory=dict)
    networks: Table = Field(default_factory=dict)
    pretraining: Table = Field(default_factory=dict)
    fine_tuning: Table = Field(default_factory=dict)
    ledm: Table = Field(default_factory=dict)
    compute: Table = Field(default_factory=dict)
    data: Table = Field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A checked study."""

    name: str
    title: str
    paper: str | None
    """The paper whose published numbers it is held against; None for a study of one's own."""
    path: Path
    scale: str
    methods: tuple[str, ...]
    targets: tuple[str, ...]
    seeds: tuple[int, ...]
    pretraining_seed: int
    source_of: Mapping[str, str | None]
    """The source of each target; None where it has none."""
    datasets: Mapping[str, DatasetInfo]
    """Every dataset that is known, those imported into the home folder among them."""
    general: Layer
    by_source: Mapping[str, Layer]
    by_target: Mapping[str, Layer]
    by_method: Mapping[str, Layer]
    text: str = ""
    """Content of its file."""
    tuned: Mapping[str, Any] = field(default_factory=dict)
    """What was taken from searches, by who takes it and which setting: `isic2018.pretraining.mask_weight`."""

    def layers(self, *, method: str, source: str | None, target: str | None) -> list[Layer]:
        """Return the study's layers for one run, the most particular last."""
        particular = (
            self.by_source.get(source or ""),
            self.by_target.get(target or ""),
            self.by_method.get(method),
        )
        return [self.general, *(each for each in particular if each is not None)]


def study_names() -> tuple[str, ...]:
    """Return the names of our studies."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_study(name: str, home: Path | None = None) -> Study:
    """Read a study by its name (one of ours) or by the path of its `.toml` file.

    Args:
        home: folder whose imported datasets a study may name.

    Raises:
        InputError: if there is no such study, or anything in its file is wrong: the message says
            what and where, and what would be right.
    """
    path = find_file(name, FOLDER, kind="study")
    return study_of(read_text(path, what="study"), path, home)


def study_of(text: str, path: Path, home: Path | None = None) -> Study:
    """Return the study that a file with this text is.

    Args:
        path: of the file, which need not be there any more; method files are looked for beside it.
        home: folder whose imported datasets a study may name.

    Raises:
        InputError: if anything in the text is wrong.
    """
    raw = parse_toml(text, path, what="study")
    place = Place(path.name if path.parent == FOLDER else str(path))
    file = check(_StudyFile, raw, place)
    _add_methods(file, path, place)
    datasets = _known_datasets(home)
    methods = method_names(file.methods, where=f"{place}: methods")
    source_of = _source_of(file, place, datasets)
    _refuse_empty_and_repeated(file, methods, source_of, place)
    overrides = {
        name: _override(name, table, place.within("overrides", name), methods)
        for name, table in _tables(raw, "overrides").items()
    }
    general = {key: raw[key] for key in Settings.model_fields if key in raw}
    study = Study(
        name=path.stem,
        title=file.title,
        paper=_paper(file, place),
        path=path,
        scale=file.scale,
        methods=methods,
        targets=tuple(source_of),
        seeds=file.seeds,
        pretraining_seed=file.pretraining_seed,
        source_of=source_of,
        datasets=datasets,
        general=layer(place, general),
        by_source={
            name: layer(place.within("sources", name), _without(table, "targets"))
            for name, table in _tables(raw, "sources").items()
        },
        by_target={
            name: layer(place.within("targets", name), table)
            for name, table in _tables(raw, "targets").items()
        },
        by_method=overrides,
        text=text,
    )
    _refuse_missing_pretrainings(study, place)
    return study


def _paper(file: _StudyFile, place: Place) -> str | None:
    if file.paper is not None and file.paper != PAPER:
        raise InputError(
            f"{place}: paper is `{file.paper}`, of which no published numbers are known",
            hint=f'`paper = "{PAPER}"`, or leave it out in a study of your own',
        )
    return file.paper


def _tables(raw: Tree, key: str) -> dict[str, Tree]:
    tables: dict[str, Tree] = raw.get(key, {})
    return tables


def _without(tree: Tree, key: str) -> Tree:
    return {name: value for name, value in tree.items() if name != key}


def _add_methods(file: _StudyFile, path: Path, place: Place) -> None:
    """Make the methods of the study's own files known."""
    for name in file.method_files:
        try:
            add_method_file(path.parent / name)
        except MethodFileError as error:
            raise InputError(f"{error}, named by {place}: method_files") from error


def _known_datasets(home: Path | None) -> Mapping[str, DatasetInfo]:
    try:
        return known_datasets(home)
    except DatasetError as error:
        raise InputError(str(error)) from error


def _source_of(
    file: _StudyFile, place: Place, datasets: Mapping[str, DatasetInfo]
) -> dict[str, str | None]:
    """Return the source of each target, in the order of the file."""
    source_of: dict[str, str | None] = {}
    for source, table in file.sources.items():
        here = place.within("sources", source)
        _check_dataset(datasets, source, "source", where=str(place.within("sources")))
        if not table.targets:
            raise InputError(f"source `{source}` lists no targets at {here}")
        refuse_repeated("target", table.targets, where=str(here))
        for target in table.targets:
            _check_dataset(datasets, target, "target", where=f"{here} targets")
            if target in source_of:
                raise InputError(
                    f"target `{target}` is listed under two sources, `{source_of[target]}` and "
                    f"`{source}`, in {place}",
                    hint="a target starts from one source; compare sources in two studies",
                )
            source_of[target] = source
    for target in file.targets:
        _check_dataset(datasets, target, "target", where=str(place.within("targets")))
        source_of.setdefault(target, None)
    return source_of


def _check_dataset(data: Mapping[str, DatasetInfo], name: str, role: Role, *, where: str) -> None:
    if name not in data:
        roles = (role, "any")
        known = [name for name, info in data.items() if info.role in roles and not info.generated]
        raise UnknownNameError("dataset", name, known, where=where)
    if data[name].role not in (role, "any"):
        raise InputError(f"dataset `{name}` is a {data[name].role}, not a {role}, at {where}")


def _refuse_empty_and_repeated(
    file: _StudyFile, methods: Sequence[str], targets: Mapping[str, str | None], place: Place
) -> None:
    named = {"seeds": file.seeds, "methods": methods, "targets": targets}
    for what, values in named.items():
        if not values:
            raise InputError(f"study {place} has no {what}")
    refuse_repeated("seed", file.seeds, where=f"{place}: seeds")
    if not file.scale.endswith(".toml") and file.scale not in scale_names():
        raise UnknownNameError("scale", file.scale, scale_names(), where=f"{place}: scale")


def _override(name: str, table: Tree, place: Place, methods: Sequence[str]) -> Layer:
    """Return the layer of one method, all of whose tables that method reads."""
    if name not in methods:
        raise UnknownNameError("method", name, methods, where=str(place))
    method = all_methods()[name]
    read = _tables_read(method)
    for key in table:
        if key not in read:
            raise InputError(
                f"method `{name}` reads no `{key}`, written at {place}",
                hint=f"it reads {', '.join(sorted(read))}",
            )
    for family in table.get("networks", {}):
        if family != method.network and family in ("adm", "deeplab", "segformer"):
            raise InputError(
                f"the network of `{name}` is {method.network}, not {family}, at {place}"
            )
    return layer(place, table)


def _tables_read(method: Method) -> set[str]:
    adaptation = "ledm" if method.adaptation == "ledm" else "fine_tuning"
    return {"networks", adaptation} | ({"pretraining"} if method.pretraining else set())


def _refuse_missing_pretrainings(study: Study, place: Place) -> None:
    """Raise an InputError if a method needs a pretraining that no source of the study provides."""
    alone = [target for target, source in study.source_of.items() if source is None]
    needy = [name for name in study.methods if all_methods()[name].pretraining]
    if alone and needy:
        method = all_methods()[needy[0]]
        raise InputError(
            f"`{method.name}` on `{alone[0]}` needs a {method.pretraining} pretraining, but no "
            f"source lists `{alone[0]}` among its targets in {place}",
            hint=f'add "{alone[0]}" to the targets of a source',
        )
