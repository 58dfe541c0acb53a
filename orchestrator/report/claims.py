"""What the paper claims, held against the table: holds, fails, or undecided here.

A claim is made of differences between two methods, on each target or on average over the targets.
All that are needed for all claims are one family: their p-values are Holm-adjusted together, and a
difference is *told* if its adjusted p-value is below 5 %.

Source of the claims: Sauvalle & Salzmann, arXiv 2408.03433, section 4 and Table 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.report.cells import Table, published
from orchestrator.report.statistics import LEVEL, Estimate, estimate, estimate_mean, holm
from orchestrator.report.verdicts import MARGIN

Outcome = Literal["holds", "fails", "undecided", "not tested"]


@dataclass(frozen=True)
class Compared:
    """A difference between two methods, first minus second, in percent points."""

    first: str
    second: str
    where: str
    """Title of the target, or `average`."""
    faces: bool
    estimate: Estimate | None
    """None where a method has no value."""
    adjusted_p: float | None = None

    @property
    def told(self) -> int:
        """1 or -1 if the difference is told from 0 within the family; else 0."""
        if self.estimate is None or self.adjusted_p is None or self.adjusted_p >= 1 - LEVEL:
            return 0
        return 1 if self.estimate.value > 0 else -1

    def __str__(self) -> str:
        found = "no value" if self.estimate is None else str(self.estimate)
        p = "" if self.adjusted_p is None else f", p {self.adjusted_p:.2g}"
        return f"{self.first} - {self.second}, {self.where}: {found}{p}"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and what this table makes of it."""

    text: str
    outcome: Outcome
    evidence: tuple[Compared, ...]
    reason: str = ""
    """Why it was not tested."""


@dataclass(frozen=True)
class _Kind:
    text: str
    pairs: tuple[tuple[str, str], ...]
    average: bool
    decide: Callable[[Sequence[Compared]], Outcome]
    only: tuple[str, ...] = ()
    """Targets that it is made of; all of the paper's if empty."""


def check_claims(table: Table) -> tuple[Claim, ...]:
    """Return each claim of the paper with its outcome here."""
    compared = [_compared(table, kind) for kind in CLAIMS]
    adjusted = iter(_adjusted([each for group in compared for each in group]))
    groups = [tuple(next(adjusted) for _ in group) for group in compared]
    return tuple(_claim(table, kind, each) for kind, each in zip(CLAIMS, groups, strict=True))


def _claim(table: Table, kind: _Kind, evidence: tuple[Compared, ...]) -> Claim:
    names = {name for pair in kind.pairs for name in pair}
    absent = sorted(names - set(table.methods))
    if absent:
        return Claim(kind.text, "not tested", (), f"no {', '.join(absent)} in this study")
    if any(cell.random_backbone for name in names for cell in table.row(name)):
        return Claim(kind.text, "not tested", evidence, "random instead of ImageNet weights")
    if any(cell.other_weights for name in names for cell in table.row(name)):
        return Claim(kind.text, "not tested", evidence, "not the published ImageNet weights")
    outcome: Outcome = "undecided"
    if all(each.estimate is not None for each in evidence):
        outcome = kind.decide(evidence)
    elsewhere = _other_targets(table, kind)
    # One target is enough to fail on every target, and not to hold on it or on average.
    if elsewhere and (kind.average or outcome != "fails"):
        return Claim(kind.text, "not tested", evidence, f"no {', '.join(elsewhere)} in this study")
    return Claim(kind.text, outcome, evidence)


def _other_targets(table: Table, kind: _Kind) -> list[str]:
    """Return the targets of the paper that a claim is made of and a table lacks."""
    here = {column.target for column in table.columns}
    wanted = kind.only or tuple(dict.fromkeys(target for _, target in published()))
    return [target for target in wanted if target not in here]


def _compared(table: Table, kind: _Kind) -> list[Compared]:
    found = []
    for first, second in kind.pairs:
        if first not in table.methods or second not in table.methods:
            continue
        columns = [each for each in table.columns if not kind.only or each.target in kind.only]
        samples = [
            table.scored[first, column.target].minus(table.scored[second, column.target])
            for column in columns
        ]
        if kind.average:
            found.append(Compared(first, second, "average", False, estimate_mean(samples)))
            continue
        for column, sample in zip(columns, samples, strict=True):
            faces = column.metric == "miou_ledm"
            found.append(Compared(first, second, column.title, faces, estimate(sample)))
    return found


def _adjusted(family: Sequence[Compared]) -> list[Compared]:
    """Return the differences with their adjusted p-values; one that two claims need counts once."""
    p_values = {
        _question(each): each.estimate.p
        for each in family
        if each.estimate and each.estimate.p is not None
    }
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [replace(each, adjusted_p=adjusted.get(_question(each))) for each in family]


def _question(each: Compared) -> tuple[str, str, str]:
    return each.first, each.second, each.where


def _all_above(evidence: Sequence[Compared]) -> Outcome:
    if any(each.told < 0 for each in evidence):
        return "fails"
    return "holds" if all(each.told > 0 for each in evidence) else "undecided"


def _all_below(evidence: Sequence[Compared]) -> Outcome:
    if any(each.told > 0 for each in evidence):
        return "fails"
    return "holds" if all(each.told < 0 for each in evidence) else "undecided"


def _below_but_on_faces(evidence: Sequence[Compared]) -> Outcome:
    others = [each for each in evidence if not each.faces]
    on_faces = _not_inferior([each for each in evidence if each.faces])
    if on_faces == "fails" or any(each.told > 0 for each in others):
        return "fails"
    behind = bool(others) and all(each.told < 0 for each in others)
    return "holds" if behind and on_faces == "holds" else "undecided"


def _not_inferior(evidence: Sequence[Compared]) -> Outcome:
    found = [each.estimate for each in evidence if each.estimate]
    if any(each.high is not None and each.high < -MARGIN for each in found):
        return "fails"
    close = all(each.low is not None and each.low > -MARGIN for each in found)
    return "holds" if close else "undecided"


CLAIMS = (
    _Kind(
        "Hybrid pretraining, fine-tuned, is ahead of supervised pretraining on every target.",
        (("hybrid_ft", "supervised_ft"),),
        average=False,
        decide=_all_above,
    ),
    _Kind(
        "Hybrid pretraining, fine-tuned, is ahead of diffusion pretraining on every target.",
        (("hybrid_ft", "diffusion_ft"),),
        average=False,
        decide=_all_above,
    ),
    _Kind(
        "LEDM on a hybrid model is behind fine-tuning it, except on faces: there it is not "
        f"{MARGIN:g} points behind.",
        (("hybrid_ledm", "hybrid_ft"),),
        average=False,
        decide=_below_but_on_faces,
    ),
    _Kind(
        "ImageNet encoders are ahead of an ADM from scratch on average over the targets.",
        (("i1k_deeplab", "scratch_adm"), ("i1k_segformer", "scratch_adm")),
        average=True,
        decide=_all_above,
    ),
    _Kind(
        "Hybrid pretraining is competitive with ImageNet and supervised pretraining: on average "
        f"not {MARGIN:g} points behind.",
        (("hybrid_ft", "i1k_sup_deeplab"), ("hybrid_ft", "i1k_sup_segformer")),
        average=True,
        decide=_not_inferior,
    ),
    _Kind(
        "Diffusion pretraining, fine-tuned, is ahead of an ADM from scratch on every target.",
        (("diffusion_ft", "scratch_adm"),),
        average=False,
        decide=_all_above,
    ),
    _Kind(
        "Supervised pretraining, fine-tuned, is ahead of an ADM from scratch on every target.",
        (("supervised_ft", "scratch_adm"),),
        average=False,
        decide=_all_above,
    ),
    _Kind(
        "LEDM is not effective on an ADM with supervised pretraining: behind fine-tuning it on every "
        "target.",
        (("supervised_ledm", "supervised_ft"),),
        average=False,
        decide=_all_below,
    ),
    _Kind(
        "The gains of hybrid pretraining over diffusion and over supervised pretraining are "
        "significant on DermIS and FFHQ-34.",
        (("hybrid_ft", "diffusion_ft"), ("hybrid_ft", "supervised_ft")),
        average=False,
        decide=_all_above,
        only=("dermis", "ffhq34"),
    ),
)
