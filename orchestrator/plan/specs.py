"""The spec of each run: settings resolved, data and weights filled in, and checked to fit.

What a task does not read has its default in the spec, whatever the study says: changing lambda
moves the key of the hybrid pretrainings and of no other. What cannot work is refused here, where
the study is still in hand, rather than on a worker an hour later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.plan.backbones import BACKBONES, Origin, checksum, find_weights, origin_of
from orchestrator.study.settings import Layer, Settings, resolve
from orchestrator.study.study import Study
from trainables.bounds import FEWEST_EVALUATED
from trainables.config import (
    AdmConfig,
    DatasetRef,
    FineTuningConfig,
    LedmConfig,
    NetworkConfig,
    PretrainedRef,
    PretrainingConfig,
    RunSpec,
)
from trainables.data.info import DatasetInfo, Preprocessing
from trainables.data.prepared import Prepared, find_prepared, folder_of
from trainables.methods import Family, Method, all_methods
from trainables.methods.random_backbone import INSTEAD_OF, STANDS_FOR
from trainables.registry import TASKS, versioned

UNPREPARED = "unprepared"  # Fingerprint of data that nobody has seen yet.

# Fields of a pretraining that only some tasks read; everything else is read by all.
READ_BY: Mapping[str, frozenset[str]] = {
    "mask_weight": frozenset({"hybrid"}),
    "hold_out": frozenset({"supervised"}),
    "evaluate_every": frozenset({"supervised"}),
    "sampling": frozenset({"diffusion", "hybrid"}),
}

GROUP_CHANNELS = 32  # The ADM normalises its channels in this many groups.
TAKE_FEWER = (
    "take fewer with --set fine_tuning.train_images and ledm.train_images, or have more images to train "
    "on (`import --train` names those that may be)"
)


@dataclass(frozen=True)
class PlannedDataset:
    """A dataset that a plan needs."""

    name: str
    """As the study calls it; `ref.name` is the stand-in where one takes its place."""
    title: str
    """What people read in tables and figures: `PH2`, or `PH2-like` of generated images."""
    role: str
    ref: DatasetRef
    images: int
    """How many there are, or will be once it is prepared."""
    expected: int
    """How many its release has, or how many are to be generated."""
    folder: Path | None
    """Where it lies prepared; None if it does not."""
    preprocessing: Preprocessing = "none"
    """What was done to its images before they were resized."""
    classes: tuple[str, ...] = ()
    """Names by label, the background first."""
    doubt: str = ""
    """Why what is prepared may not be what its files say, and what would settle it."""

    @property
    def shown(self) -> str:
        """What people read beside names of rows: `ph2`, or `ph2-like` of generated images."""
        return self.ref.name

    @property
    def prepared(self) -> bool:
        """Whether the dataset is there."""
        return self.folder is not None


class Specs:
    """Makes the specs of one study, reading each dataset and each file of weights once."""

    def __init__(self, study: Study, upper: Sequence[Layer], home: Path | None) -> None:
        """Take the study's layers, the layers on top of them, and where data may lie."""
        self.datasets: dict[str, PlannedDataset] = {}
        """The datasets of the specs made so far, by their names in the study."""
        self._study, self._upper, self._home = study, upper, home
        self._resolved: dict[tuple[str, str | None, str | None], Settings] = {}
        self._weights: dict[str, tuple[Path, str] | None] = {}

    def pretraining(self, method: Method, source: str) -> RunSpec:
        """Return the spec of the pretraining that a method needs.

        Raises:
            InputError: if the settings cannot work.
        """
        assert method.pretraining is not None
        settings = self.settings(method.name, source, None)
        data = self._dataset(source, settings)
        training = _without_micro_batch(settings.pretraining, method.network)
        return RunSpec(
            stage="pretraining",
            task=_task(method.pretraining, method),
            network=self._network(method, settings),
            dataset=data.ref,
            seed=self._study.pretraining_seed,
            training=_as_read_by(method.pretraining, training),
            compute=settings.compute,
        )

    def fine_tuning(
        self,
        method: Method,
        target: str,
        seed: int,
        *,
        pretraining: tuple[str, RunSpec] | None,
        source: str | None,
    ) -> RunSpec:
        """Return the spec of one cell of the table.

        Args:
            pretraining: key and spec of the pretraining that it starts from.
            source: dataset of that pretraining, as the study calls it.

        Raises:
            InputError: if the settings cannot work.
        """
        settings = self.settings(method.name, source, target)
        data = self._dataset(target, settings)
        network = self._network(method, settings)
        training: FineTuningConfig | LedmConfig = settings.fine_tuning
        if method.adaptation == "ledm":
            training = settings.ledm
            _check_blocks(settings.ledm, network, method)
        else:
            training = _of_family(settings.fine_tuning, method.network)
        _check_split(training, data, method)
        return RunSpec(
            stage="fine-tuning",
            task=_task(method.adaptation, method),
            network=network,
            dataset=data.ref,
            seed=seed,
            training=training,
            pretrained=_reference(*pretraining) if pretraining else None,
            compute=settings.compute,
        )

    def lacks_weights(self, method: str) -> bool:
        """Return whether one of Table 2's ImageNet rows needs weights that are not there."""
        known = all_methods()[method]
        if method not in INSTEAD_OF:
            return False
        network = self._network(known, self.settings(method, None, None))
        wanted = getattr(network, "backbone", "random") == "imagenet1k"
        return wanted and self._weight_file(BACKBONES[known.network].name) is None

    def origin_of_weights(self, method: str) -> Origin | None:
        """Return where the ImageNet weights of a row came from; None if it has none."""
        known = all_methods()[method]
        network = self._network(known, self.settings(method, None, None))
        if getattr(network, "backbone_sha256", None) is None:
            return None
        backbone = BACKBONES[known.network]
        found = self._weight_file(backbone.name)
        assert found is not None, "its checksum is in the network"
        return origin_of(backbone, found[0])

    def backbone_name(self, spec: RunSpec) -> str | None:
        """Return the name of the ImageNet weights that a run loads; None if it loads none."""
        wanted = getattr(spec.network, "backbone", "random") == "imagenet1k"
        # A pretrained network already contains what came of its backbone.
        loads = wanted and spec.pretrained is None
        return BACKBONES[spec.network.family].name if loads else None

    def backbone_file(self, spec: RunSpec) -> Path | None:
        """Return the file of these weights; None if none is needed or it is not there."""
        name = self.backbone_name(spec)
        found = self._weight_file(name) if name else None
        return found[0] if found else None

    def settings(self, method: str, source: str | None, target: str | None) -> Settings:
        """Return what a row of the table is set to; None leaves the layer of a source or target out."""
        at = (method, source, target)
        if at not in self._resolved:
            # A row from random weights is set up as the row that it stands in for.
            like = STANDS_FOR.get(method, method)
            lower = self._study.layers(method=like, source=source, target=target)
            self._resolved[at] = resolve([*lower, *self._upper])
        return self._resolved[at]

    def _dataset(self, name: str, settings: Settings) -> PlannedDataset:
        if name not in self.datasets:
            info = _info(name, self._study.datasets, generated=settings.data.generated)
            self.datasets[name] = _planned(name, info, settings, self._home)
        return self.datasets[name]

    def _network(self, method: Method, settings: Settings) -> NetworkConfig:
        """Return a network's configuration, the checksum of its backbone filled in."""
        family = method.network
        network = settings.networks.of(family)
        if isinstance(network, AdmConfig):
            _check_adm(network, settings.data.image_size)
            return network
        if network.backbone == "random" or not method.imagenet:
            return network.model_copy(update={"backbone": "random"})
        _check_backbone_fits(network)
        found = self._weight_file(BACKBONES[family].name)
        return network.model_copy(update={"backbone_sha256": found[1]}) if found else network

    def _weight_file(self, name: str) -> tuple[Path, str] | None:
        if name not in self._weights:
            path = find_weights(self._home, name) if self._home else None
            self._weights[name] = (path, checksum(path)) if path else None
        return self._weights[name]


def _planned(
    name: str, info: DatasetInfo, settings: Settings, home: Path | None
) -> PlannedDataset:
    wanted = _images(info, settings)
    size = settings.data.image_size
    found = find_prepared(home, info, size) if home else None
    if found and info.generated and found.images != wanted:
        found = None  # Made for another scale; `prepare` makes it again.
    return PlannedDataset(
        name=name,
        title=info.title,
        role=info.role,
        ref=_ref(info, found, size),
        images=found.images if found else wanted,
        expected=wanted,
        folder=folder_of(home, info, size) if home and found else None,
        preprocessing=(found and found.preprocessing) or info.preprocessing,
        classes=info.classes,
        doubt=info.doubt,
    )


def _info(name: str, data: Mapping[str, DatasetInfo], *, generated: bool) -> DatasetInfo:
    if not generated or data[name].generated:
        return data[name]
    if f"{name}-like" not in data:
        raise InputError(
            f"dataset `{name}` has no generated stand-in `{name}-like`, which `data.generated` "
            "asks for",
            hint="use a scale with real data, or give the dataset's file a STAND_IN",
        )
    return data[f"{name}-like"]


def _images(info: DatasetInfo, settings: Settings) -> int:
    data = settings.data
    asked = data.source_images if info.role == "source" else data.target_images
    return asked if info.generated and asked else info.expected


def _ref(info: DatasetInfo, found: Prepared | None, image_size: int) -> DatasetRef:
    return DatasetRef(
        name=info.name,
        fingerprint=found.fingerprint if found else UNPREPARED,
        classes=len(info.classes),
        image_size=image_size,
        augmentation=info.augmentation,
        metric=info.metric,
        generated=info.generated,
    )


def _reference(key: str, spec: RunSpec) -> PretrainedRef:
    return PretrainedRef(key=key, task=spec.task, classes=spec.dataset.classes)


def _task(task: str, method: Method) -> str:
    if method.code is not None and ":" in task:
        return versioned(task, method.code)
    if task not in TASKS and ":" not in task:
        raise InputError(
            f"method `{method.name}` needs the task `{task}`, which nothing provides",
            hint=f"tasks are {', '.join(TASKS)}, or `module:Class`",
        )
    return task


def _as_read_by(task: str, training: PretrainingConfig) -> PretrainingConfig:
    if task not in TASKS:
        return training  # A task from outside may read anything.
    fields = PretrainingConfig.model_fields
    unread = {name: fields[name].default for name, tasks in READ_BY.items() if task not in tasks}
    return training.model_copy(update=unread)


def _without_micro_batch(training: PretrainingConfig, family: Family) -> PretrainingConfig:
    # Batch normalisation would see smaller batches; the ADM has none, so there it is exact.
    return training if family == "adm" else training.model_copy(update={"micro_batch": None})


def _of_family(training: FineTuningConfig, family: Family) -> FineTuningConfig:
    if family == "adm":
        return training
    # Only the ADM is conditioned on a timestep; batches as in pretraining.
    unread = {"timestep": FineTuningConfig.model_fields["timestep"].default, "micro_batch": None}
    return training.model_copy(update=unread)


def _check_adm(network: AdmConfig, image_size: int) -> None:
    halvings = 2 ** (len(network.multipliers) - 1)
    if image_size % halvings:
        raise InputError(
            f"data.image_size {image_size} cannot be halved {len(network.multipliers) - 1} times, "
            f"as networks.adm.multipliers {list(network.multipliers)} ask for",
            hint=f"multiples of {halvings} can",
        )
    widths = [network.channels * multiplier for multiplier in network.multipliers]
    if any(width % GROUP_CHANNELS for width in widths):
        raise InputError(
            f"networks.adm has levels of {widths} channels, which are not all multiples of "
            f"{GROUP_CHANNELS}"
        )
    rates = [2**level for level in range(len(widths))]
    for rate in network.attention_rates:
        if rate not in rates:
            raise InputError(
                f"networks.adm.attention_rates has {rate}, but the levels are at rates {rates}"
            )
    # The middle block, as wide as the coarsest level, always has attention.
    attending = {
        w for w, rate in zip(widths, rates, strict=True) if rate in network.attention_rates
    }
    for width in sorted({*attending, widths[-1]}):
        if width % network.head_channels:
            raise InputError(
                f"networks.adm.head_channels {network.head_channels} does not divide a level of "
                f"{width} channels with attention"
            )


def _check_blocks(ledm: LedmConfig, network: NetworkConfig, method: Method) -> None:
    if not isinstance(network, AdmConfig):
        raise InputError(f"method `{method.name}` uses LEDM, which needs the network adm")
    count = len(network.multipliers) * (network.blocks_per_level + 1)
    beyond = [block for block in ledm.blocks if block >= count]
    if beyond:
        raise InputError(
            f"ledm.blocks has {beyond[0]}, but networks.adm has the decoder blocks 0 to {count - 1}"
        )


def _check_split(
    training: FineTuningConfig | LedmConfig, data: PlannedDataset, method: Method
) -> None:
    if training.train_images + FEWEST_EVALUATED > data.images:
        raise InputError(
            f"method `{method.name}` trains on {training.train_images} images of "
            f"`{data.ref.name}`, which leaves fewer than {FEWEST_EVALUATED} of its {data.images} "
            "to validate and test",
            hint=TAKE_FEWER,
        )


def _check_backbone_fits(network: NetworkConfig) -> None:
    defaults = type(network)()
    for name in BACKBONES[network.family].fields:
        if getattr(network, name) != getattr(defaults, name):
            raise InputError(
                f"networks.{network.family}.{name} {list(_many(getattr(network, name)))} has no "
                "ImageNet weights",
                hint=f'set networks.{network.family}.backbone = "random"; the results say so',
            )


def _many(value: object) -> Sequence[object]:
    return value if isinstance(value, tuple) else (value,)
