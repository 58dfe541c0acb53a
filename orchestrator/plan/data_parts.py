"""The parts of each target in numbers, and what of the data a plan warns of or refuses.

A pure function of a plan and of the descriptions of its prepared datasets; no image is opened. What
is refused here would fail in training, after a pretraining was paid for, or score what is not there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.errors import InputError
from orchestrator.plan.plan import Plan
from orchestrator.plan.specs import TAKE_FEWER, PlannedDataset
from orchestrator.wording import in_short
from trainables.config import FineTuningConfig, LedmConfig
from trainables.data.contents import Contents, read_contents
from trainables.data.datasets import all_datasets

MOST_CLASSES = 4  # That a message names.


@dataclass(frozen=True)
class TargetParts:
    """How many images of a target each part has."""

    target: str
    """As the study calls it."""
    train: int
    val: int
    test: int
    unused: int
    """Fixed for training by the release or by `--train`, and more than are trained on."""
    untrained: tuple[str, ...] = ()
    """Classes but the background of which no training image has a pixel."""
    untested: tuple[str, ...] = ()
    """The same of the test part."""

    def told(self, shown: str) -> str:
        """Return the parts with what people read of the target."""
        unused = f" ({self.unused} for training unused)" if self.unused else ""
        return f"{shown} {self.train}/{self.val}/{self.test}{unused}"

    def record(self) -> dict[str, int]:
        """Return the numbers for machines."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {**parts, "unused": self.unused}


def parts_by_run(plan: Plan) -> dict[str, TargetParts]:
    """Return the parts that each fine-tuning divides its target into, by key, as far as they are known.

    Raises:
        InputError: if a target has too few images for them.
    """
    datasets = {each.name: each for each in plan.datasets}
    known: dict[tuple[str, int, int], TargetParts | None] = {}
    found = {}
    for run in plan.runs:
        training = run.spec.training
        if run.target is None or not isinstance(training, FineTuningConfig | LedmConfig):
            continue
        at = (run.target, training.train_images, training.split_seed)
        if at not in known:
            known[at] = _parts(datasets[run.target], *at)
        if parts := known[at]:
            found[run.key] = parts
    return found


def require_parts(plan: Plan) -> None:
    """Raise an InputError if a target cannot be divided, or has a part without one of its classes.

    A release of several classes is what it is, and the paper's table has it so: that is a warning.
    """
    datasets = {each.name: each for each in plan.datasets}
    for parts in dict.fromkeys(parts_by_run(plan).values()):
        data = datasets[parts.target]
        if _fixed(data):
            continue
        for classes, part in _absent(parts):
            raise InputError(
                f"target `{data.ref.name}`: no pixel of {in_short(classes, most=MOST_CLASSES)} in "
                f"its {part} part, so its scores would say nothing about that",
                hint=f"`hdsweep data verify {data.ref.name}` counts the images of each class; divide "
                "it otherwise, by `import --train` or --set fine_tuning.split_seed and "
                "ledm.split_seed, or take the class out",
            )


def data_warnings(plan: Plan) -> Iterator[str]:
    """Yield what should be known of the data before it is trained on, a sentence each."""
    datasets = {each.name: each for each in plan.datasets}
    yield from (f"{each.ref.name}: {each.doubt}" for each in plan.datasets if each.doubt)
    for source, target in dict.fromkeys((run.source, run.target) for run in plan.runs):
        if source is not None and target is not None:
            yield from _preprocessed(datasets[source], datasets[target])
    for parts in dict.fromkeys(parts_by_run(plan).values()):
        if _fixed(datasets[parts.target]):
            for classes, part in _absent(parts):
                yield (
                    f"{datasets[parts.target].shown}: no pixel of {in_short(classes, most=MOST_CLASSES)} in its "
                    f"{part} part; {datasets[parts.target].ref.metric} counts a class that is not there "
                    "as 0"
                )


def parts_line(plan: Plan) -> str:
    """Return the parts of all targets in one sentence; empty if none is known."""
    found = dict.fromkeys(parts_by_run(plan).values())
    texts = [parts.told(plan.named[parts.target].shown) for parts in found]
    return f"images to train/validate/test: {', '.join(texts)}" if texts else ""


def _parts(
    data: PlannedDataset, target: str, train_images: int, split_seed: int
) -> TargetParts | None:
    contents = read_contents(data.folder) if data.folder else None
    if contents is None:
        return _expected(data, target, train_images)
    # With NumPy, which a plan without data needs not.
    from trainables.data.feeding.splits import split_target

    try:
        split = split_target(
            contents.ids,
            contents.official_split,
            train_images=train_images,
            split_seed=split_seed,
        )
    except ValueError as error:
        raise InputError(
            f"target `{data.ref.name}`: {error}",
            hint=TAKE_FEWER,
        ) from None
    used = len(split.train) + len(split.val) + len(split.test)
    return TargetParts(
        target=target,
        train=len(split.train),
        val=len(split.val),
        test=len(split.test),
        unused=len(contents.ids) - used,
        untrained=_not_shown(data, contents, split.train),
        untested=_not_shown(data, contents, split.test),
    )


def _expected(data: PlannedDataset, target: str, train_images: int) -> TargetParts | None:
    """Return the parts that a release will have; None of a set of one's own, whose split may be fixed."""
    info = all_datasets().get(data.ref.name)
    if info is None:
        return None
    fixed = info.official_train if data.images >= info.expected else 0
    rest = data.images - (fixed or train_images)
    return TargetParts(
        target, train_images, rest // 2, rest - rest // 2, max(fixed - train_images, 0)
    )


def _not_shown(data: PlannedDataset, contents: Contents, part: tuple[int, ...]) -> tuple[str, ...]:
    shown = {label for index in part for label in contents.classes[index]}
    return tuple(name for label, name in enumerate(data.classes) if label and label not in shown)


def _absent(parts: TargetParts) -> Iterator[tuple[tuple[str, ...], str]]:
    if parts.untrained:
        yield parts.untrained, "training"
    if parts.untested:
        yield parts.untested, "test"


def _fixed(data: PlannedDataset) -> bool:
    """Whether a dataset of several classes is a release that the paper's table has as it is."""
    return data.role == "target" and len(data.classes) > 2


def _preprocessed(source: PlannedDataset, target: PlannedDataset) -> Iterator[str]:
    if source.preprocessing == target.preprocessing:
        return
    both = (source, target)
    equalised, plain = both if source.preprocessing == "equalised" else both[::-1]
    hint = "; `import --modality chest-xray` equalises" if plain.role == "any" else ""
    yield (
        f"{source.ref.name} -> {target.ref.name}: the images of {equalised.ref.name} are equalised, "
        f"those of {plain.ref.name} are not, so that networks meet other grey levels than they were "
        f"pretrained on{hint}"
    )
