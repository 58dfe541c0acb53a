"""Whether a plan may be held against the paper: real data, its settings, its weights.

Decided run by run against our own `table2` at scale `paper`, so that a study of somebody's own with
the same settings is comparable too. What changes rounding or bookkeeping only does not count.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from orchestrator.plan.differences import differences
from orchestrator.plan.specs import PlannedDataset, Specs
from orchestrator.study.scale import load_scale
from orchestrator.study.study import Study, load_study
from trainables.config import RunSpec
from trainables.methods import all_methods

NO_PAPER = "the study names no paper"
OTHER_WEIGHTS = "other than the published ImageNet weights, not comparable with the paper"


class Row(NamedTuple):
    """What of a study decides a spec, seeds apart; a pretraining has no target."""

    method: str
    source: str | None
    target: str | None


NEUTRAL = frozenset(
    {
        "seed",
        "dataset.fingerprint",
        "pretrained.key",  # A pretraining that differs is itself in the plan, and says how.
        "networks.deeplab.backbone_sha256",  # Other weights are told row by row, by their origin.
        "networks.segformer.backbone_sha256",
        "pretraining.micro_batch",
        "pretraining.log_every",
        "pretraining.sampling.images",
        "pretraining.sampling.steps",
        "fine_tuning.micro_batch",
        "compute.threads",
        "compute.deterministic",
        "compute.compile",
        "compute.channels_last",
        "compute.one_layout",
        "compute.fused_adamw",
        "compute.tf32_matmul",
        "compute.fused_norm",
    }
)


def why_not_comparable(
    specs: Mapping[Row, RunSpec], datasets: Sequence[PlannedDataset]
) -> tuple[str, ...]:
    """Return one reason for each thing that differs from the paper; none means comparable."""
    reasons = dict.fromkeys(_data_reasons(datasets))
    paper, _ = _paper()
    shown = {each.name: each.shown for each in datasets}
    for row, spec in specs.items():
        if row.method not in paper.methods:
            continue  # A row of one's own has nothing published to be held against.
        published = _published(row)
        if published is None:
            start = f"pretrained on {shown[row.source]}" if row.source else "without pretraining"
            where = f" on {shown[row.target]}" if row.target else ""
            reasons[f"{row.method} {start}{where} is not in the paper"] = None
            continue
        for each in differences(published.model_dump(mode="json"), spec.model_dump(mode="json")):
            if _counts(each.path, each.after):
                reasons[str(each)] = None
    return tuple(reasons)


def _data_reasons(datasets: Sequence[PlannedDataset]) -> list[str]:
    reasons = ["generated images"] if any(each.ref.generated for each in datasets) else []
    return reasons + [
        f"{each.name} has {each.images} of {each.expected} images"
        for each in datasets
        if not each.ref.generated and each.images != each.expected
    ]


def _counts(path: str, after: object) -> bool:
    if path == "compute.precision":
        return after == "bf16"  # fp32 and tf32 are both the paper's single precision.
    # That the images are generated is said once, for all datasets.
    return path not in NEUTRAL and path not in ("dataset.name", "dataset.generated")


@cache
def _published(row: Row) -> RunSpec | None:
    """Return the spec of the paper's run; None if the paper has no such run."""
    study, specs = _paper()
    method = all_methods()[row.method]
    if row.target is None:
        assert row.source is not None
        known = row.source in study.by_source
        return specs.pretraining(method, row.source) if known else None
    if row.target not in study.targets:
        return None
    if row.source is None:
        return specs.fine_tuning(method, row.target, 0, pretraining=None, source=None)
    if study.source_of[row.target] != row.source:
        return None
    start = specs.pretraining(method, row.source)
    return specs.fine_tuning(
        method, row.target, 0, pretraining=(start.key, start), source=row.source
    )


@cache
def _paper() -> tuple[Study, Specs]:
    study = load_study("table2")
    return study, Specs(study, [load_scale("paper").layer], None)
