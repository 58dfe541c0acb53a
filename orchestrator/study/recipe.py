"""What a user wrote to have a plan: enough to make the same one again, anywhere and later.

Texts and not paths: a study file may be changed or gone by the time that somebody looks at what it made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.study import scale as scales
from orchestrator.study import study as studies
from orchestrator.study.checking import find_file, read_text
from orchestrator.study.from_search import read_answer, with_answer
from orchestrator.study.scale import Scale, scale_of
from orchestrator.study.selection import Filters, Written
from orchestrator.study.study import Study, study_of


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A study, a scale and what was said besides."""

    study_file: str
    """Path of the file; the bare name of one of ours. Method files are looked for beside it."""
    study_text: str
    scale_file: str
    scale_text: str
    overrides: tuple[str, ...] = ()
    """The arguments of `--set`."""
    search: str | None = None
    """Search whose answer was taken."""
    answer: Mapping[str, Any] | None = None
    """What that had found."""
    random_backbone: bool = False
    methods: tuple[str, ...] | None = None
    """Filters, as they were written; None is everything."""
    targets: tuple[str, ...] | None = None
    seeds: tuple[str, ...] | None = None

    @property
    def filters(self) -> Filters:
        """The part of the study that is looked at."""
        return Filters(self.methods, self.targets, self.seeds)

    def study(self, home: Path | None) -> tuple[Study, tuple[str, ...]]:
        """Return the study with what was tuned, and a sentence about that if anything was.

        Raises:
            InputError: if its text is wrong, or names a file or a dataset that is gone.
        """
        path = Path(self.study_file)
        ours = studies.FOLDER / path.name
        study = study_of(self.study_text, path if path.parent.name else ours, home)
        if self.search is None or self.answer is None:
            return study, ()
        tuned, sentence = with_answer(study, self.search, self.answer)
        return tuned, (sentence,)

    def scale(self) -> Scale:
        """Return the scale.

        Raises:
            InputError: if its text is wrong.
        """
        path = Path(self.scale_file)
        return scale_of(self.scale_text, path if path.parent.name else scales.FOLDER / path.name)


def recipe_of(
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
) -> Recipe:
    """Return what a user wrote; the arguments are those of `load_plan`.

    Raises:
        InputError: if there is no such study, scale or search.
    """
    file = find_file(study, studies.FOLDER, kind="study")
    text = read_text(file, what="study")
    own = study_of(text, file, home).scale
    beside = file.parent if scale is None else None
    scaled = find_file(scale or own, scales.FOLDER, kind="scale", beside=beside)
    return Recipe(
        study_file=_named(file, studies.FOLDER),
        study_text=text,
        scale_file=_named(scaled, scales.FOLDER),
        scale_text=read_text(scaled, what="scale"),
        overrides=tuple(overrides),
        search=from_tune,
        answer=None if from_tune is None else read_answer(home, from_tune),
        random_backbone=allow_random_backbone,
        methods=written_list(methods),
        targets=written_list(targets),
        seeds=written_list(seeds),
    )


def _named(file: Path, folder: Path) -> str:
    return file.name if file.parent == folder else str(file.absolute())


def written_list(filter_: Written) -> tuple[str, ...] | None:
    """Return a filter as a list of what was written; None for no filter."""
    if filter_ is None:
        return None
    return (filter_,) if isinstance(filter_, str) else tuple(filter_)
