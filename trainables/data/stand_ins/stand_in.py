"""Stand-ins: generated datasets that take the place of a real one where it cannot be had."""

from collections.abc import Iterator

from trainables.data.info import DatasetInfo, Sample

MOST_IMAGES = 400  # Made unless told otherwise; enough for sources at demo scale.


def stand_in(real: DatasetInfo, *, classes: tuple[str, ...] | None = None) -> DatasetInfo:
    """Return the generated dataset `<name>-like`, which is used just as `real` is.

    Args:
        classes: names by label, where the program draws others than the release annotates.
    """
    name = f"{real.name}-like"

    def generate(count: int, side: int) -> Iterator[Sample]:
        from trainables.data.stand_ins.generated import generate

        return generate(name, count=count, side=side)

    return DatasetInfo(
        name=name,
        title=f"{real.title}-like",
        role=real.role,
        classes=classes or real.classes,
        expected=min(real.expected, MOST_IMAGES),
        metric=real.metric,
        augmentation=real.augmentation,
        terms="drawn by a program of this project; shows no patient and no person",
        url="",
        preprocessing=real.preprocessing,  # What it imitates.
        stored_margin=1.125 if real.stored_margin > 1 else 1.0,
        # As they always were, since the keys of finished runs say so.
        labels_at="corner",
        official_train=real.official_train,
        generate=generate,
    )
