"""Which plan a user asks for: a study with its options, or a stored sweep by name."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import InputError
from orchestrator.plan.identity import find, looks_like_a_sweep
from orchestrator.plan.plan import Plan, load_plan, plan_of
from orchestrator.process.stopping import Say
from orchestrator.store.home.home import Home
from orchestrator.store.sweeps.file import Description, every, known_names
from orchestrator.study.recipe import Recipe, written_list
from orchestrator.study.scale import scale_names
from orchestrator.study.selection import Written
from orchestrator.study.study import study_names

if TYPE_CHECKING:
    from orchestrator.store.store import Store

DEFAULT_STUDY = "table2"
FILTERS = ("methods", "targets", "seeds")
OF_A_STUDY = {
    "scale": "--scale",
    "overrides": "--set",
    "allow_random_backbone": "--allow-random-backbone",
    "from_tune": "--from-tune",
}


def asked_plan(study: str, home: Path, **options: Any) -> Plan:
    """Return the plan that is asked for; what the commands on a study start with.

    Args:
        study: one of our studies, a study file, or the name of a sweep that is stored in the home.
        options: those of `load_plan`; with a name, the filters only: the rest is in it.

    Raises:
        InputError: if anything the user wrote is wrong, or no such sweep is stored.
    """
    if not looks_like_a_sweep(study):
        return load_plan(study, home=home, **options)
    for option, flag in OF_A_STUDY.items():
        if options.get(option):
            raise InputError(
                f"{flag} goes with a study, and `{study}` is a sweep, which has its settings",
                hint="name the study, or leave the option out",
            )
    filters: dict[str, Any] = {name: options.get(name) for name in FILTERS}
    written, _, more = study.partition(",")
    ours, _, scale = written.partition("/")
    known = known_names(Home(home))
    if (
        not more
        and ours in study_names()
        and scale in scale_names()
        and study not in known.values()
    ):
        return load_plan(ours, scale=scale, home=home, **filters)
    require_home(Home(home))
    description = every(Home(home))[find(study, known, where=f"`{home}`")]
    plan = plan_of(_filtered(description, filters), home)
    if description.identity.subset and any(filters.values()):
        _require_part(plan, plan_of(recipe_of_sweep(description), home))
    return plan


def _require_part(plan: Plan, of: Plan) -> None:
    """Raise an InputError if filters ask a subset for what is not in it."""
    for kind in FILTERS:
        asked, there = getattr(plan, kind), getattr(of, kind)
        more = [str(each) for each in asked if each not in there]
        if more:
            raise InputError(
                f"`{of.identity.name}` has no {kind} {', '.join(more)}",
                hint=f"name the whole, `{of.identity.whole.name}`",
            )


def recipe_of_sweep(description: Description) -> Recipe:
    """Return what a stored sweep was made from.

    Raises:
        InputError: if that was not written down.
    """
    if description.recipe is None:
        raise InputError(f"what `{description.identity.name}` was planned from is not stored")
    return description.recipe


def require_home(home: Home) -> None:
    """Raise an InputError if nothing was ever stored in a home.

    For verbs that tell what is stored: of a home that is misspelt they would say that all is still to do.
    """
    if (
        not home.exists() and home.driver is None
    ):  # One that is just being begun has a driver first.
        there = home.path.is_dir()
        what = f"nothing was run in home folder `{home.path}` yet"
        raise InputError(
            what if there else f"there is no home folder `{home.path}`",
            hint="--home or HDSWEEP_HOME names another",
        )


def _filtered(description: Description, filters: dict[str, Written]) -> Recipe:
    recipe = recipe_of_sweep(description)
    kept = {"methods": recipe.methods, "targets": recipe.targets, "seeds": recipe.seeds}
    asked = {name: written_list(each) or kept[name] for name, each in filters.items()}
    return replace(
        recipe, methods=asked["methods"], targets=asked["targets"], seeds=asked["seeds"]
    )


def plans_of_cell(
    store: "Store", study: str | None, scale: str | None, say: Say
) -> dict[str, Plan]:
    """Return the plans that a cell of the table is looked for in, by the names of their sweeps.

    Args:
        study: a study or a stored sweep; None for all that are stored.
        say: is told of a stored sweep that cannot be planned any more.

    Raises:
        InputError: if there is no such study or sweep.
    """
    home = store.home.path
    if study is not None or scale is not None:
        plan = asked_plan(study or DEFAULT_STUDY, home, scale=scale)
        return {plan.identity.name: plan}
    found: dict[str, Plan] = {}
    for key, name in store.sweeps.names().items():
        description = store.sweeps.description(key)
        try:
            found[name] = (
                asked_plan(name, home)
                if description is None
                else plan_of(recipe_of_sweep(description), home)
            )
        except InputError as error:
            say(f"`{name}` cannot be looked into: {str(error).splitlines()[0]}")
    return found
