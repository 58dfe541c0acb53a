"""The answer of a search as a study uses it: `hdsweep run table2 --from-tune NAME`.

Each search leaves its answer as a small file in the home, so that planning needs no Optuna. What was
tuned is set for all that a study can set it for alone: a setting of the pretraining for the source, one of
the fine-tuning for the method; and the plan says so, with what the tuning took, since the other rows were
not tuned.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.errors import InputError
from orchestrator.study.checking import Place, merge
from orchestrator.study.settings import Layer
from orchestrator.study.study import Study

METHOD = "hybrid_ft"
ONLY_HYBRID = ("pretraining.mask_weight",)  # Other pretrainings do not read it.


def answer_file(home: Path, name: str) -> Path:
    """Return where a search leaves its answer."""
    return home / "tuning" / f"{name}.answer.json"


def write_answer(home: Path, name: str, answer: Mapping[str, Any]) -> None:
    """Leave the answer of a search for studies to use."""
    file = answer_file(home, name)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(answer, indent=1), encoding="utf-8")
    fresh.chmod(0o600)
    fresh.rename(file)


def with_tuned(study: Study, home: Path | None, name: str) -> tuple[Study, str]:
    """Return the study with what a search found, and a sentence about it.

    Raises:
        InputError: if there is no such search, it found nothing, or its source is not the study's.
    """
    return with_answer(study, name, read_answer(home, name))


def with_answer(study: Study, name: str, answer: Mapping[str, Any]) -> tuple[Study, str]:
    """Return the study with the answer of a search, and a sentence about it.

    Raises:
        InputError: if the source of the search is not the study's.
    """
    source = str(answer["source"])
    if source not in study.by_source:
        raise InputError(f"the search `{name}` is on {source}, no source of study `{study.name}`")
    by_source, by_method = dict(study.by_source), dict(study.by_method)
    tuned = dict(study.tuned)
    place = Place(f"--from-tune {name}", is_file=False)
    for path, value in answer["settings"].items():
        above, _, rest = path.partition(".")
        tree = _nested(path.split("."), value)
        if above == "pretraining":
            by_source[source] = _over(by_source.get(source), tree, place)
            tuned[f"{source}.{path}"] = value
        elif above == "fine_tuning":
            by_method[METHOD] = _over(by_method.get(METHOD), tree, place)
            tuned[f"{METHOD}.{path}"] = value
        else:
            raise InputError(f"the search `{name}` tuned {path}, which no row of a table can take")
        assert rest
    changed = replace(study, by_source=by_source, by_method=by_method, tuned=tuned)
    return changed, _sentence(name, answer)


def _sentence(name: str, answer: Mapping[str, Any]) -> str:
    shown = answer.get("shown", {})  # Earlier answers have none.
    source, *targets = (shown.get(n, n) for n in (answer["source"], *answer["targets"]))
    settings = answer["settings"].items()
    values = ", ".join(f"{_who(path, source)} {path} = {value:.3g}" for path, value in settings)
    cost = f", {answer['updates']:,} pretraining updates" if answer["updates"] else ""
    return (
        f"{values}: from the search {name} on {source} to {', '.join(targets)} "
        f"({answer['trials']} trials{cost}, validation images only); no other row was tuned"
    )


def _who(path: str, source: str) -> str:
    """Return which rows use what was tuned, and the verb: more of them than it was tuned for."""
    if path in ONLY_HYBRID:
        return f"hybrid rows on {source} use"
    if path.startswith("pretraining."):
        return f"all rows pretrained on {source} use"
    return f"{METHOD} uses on every target"


def read_answer(home: Path | None, name: str) -> dict[str, Any]:
    """Return what a search found, as it left it.

    Raises:
        InputError: if there is no such search, or it found nothing.
    """
    try:
        answer: dict[str, Any] = json.loads(
            answer_file(home or Path(), name).read_text(encoding="utf-8")
        )
    except (FileNotFoundError, ValueError) as error:
        folder = (home or Path()) / "tuning"
        known = sorted(p.name.removesuffix(".answer.json") for p in folder.glob("*.answer.json"))
        hint = f"searches are {', '.join(known)}" if known else "nothing was tuned in this home"
        raise InputError(f"no search `{name}` has an answer", hint=hint) from error
    if not answer["settings"]:
        raise InputError(f"the search `{name}` has no complete trial yet")
    return answer


def _over(layer: Layer | None, tree: dict[str, Any], place: Place) -> Layer:
    return Layer(place, merge(layer.tree, tree) if layer else tree)


def _nested(path: list[str], value: object) -> dict[str, Any]:
    return {path[0]: _nested(path[1:], value) if len(path) > 1 else value}
