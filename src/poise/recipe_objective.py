"""Which loss a recipe means: the command, or what `loss_type` names under it, alone or in a weighted sum.

loss_type: ipo                              one loss, another one than the command's
loss_type: [sigmoid, bco_pair, sft]         the sum of three
loss_weights: [0.8, 0.2, 1.0]               each times its weight; 1 by default
"""

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

from poise.dialects import LOSS_FAMILIES, LOSS_NOTES, LOSS_TYPES, LOSS_TYPES_OF
from poise.errors import RecipeError
from poise.names import did_you_mean, load_named, names_in
from poise.recipe_draft import Draft, Origin, Setting
from poise.recipe_faults import show
from poise.recipe_yaml import Fault

if TYPE_CHECKING:  # the objective's own file imports torch, and only once the recipe names it
    from poise.batch.objective import Objective

OBJECTIVES = "poise.objectives"
_SHOWN_OWNERS = 4


def resolve_objective(verb: str, draft: Draft) -> tuple["type[Objective]", str]:
    """Load the class of the objective a recipe means, and say its verb; what is wrong becomes faults."""
    known = names_in(OBJECTIVES)
    if verb not in known:
        raise RecipeError(f"there is no objective {verb!r}{did_you_mean(verb, known)} (there are {', '.join(known)})")
    setting, weights = draft.settings.pop("loss_type", None), draft.settings.pop("loss_weights", None)
    weights = weights if weights is not None and weights.value is not None else None
    if weights and not (setting and _is_list(setting)):
        _set_weights_aside(draft, weights, setting)
        weights = None
    said = _said(setting)
    names = [_named(verb, each) for each in said]
    if setting is None or not said or _faulty(verb, draft, setting, said, names):
        return objective_class(verb), verb
    if len(names) == 1 and not weights:
        return _alone(verb, draft, setting, names[0])
    from poise.batch.weighted import weighted_sum

    draft.settings["loss_type"] = dataclasses.replace(setting, value=said, text=None)
    if weights:
        draft.settings["loss_weights"] = weights
    return weighted_sum(tuple(zip(said, map(objective_class, names), strict=True))), verb


def objective_class(name: str) -> "type[Objective]":
    """Return the one public class of an objective's file that has a loss."""
    module = load_named(OBJECTIVES, name)
    for found in vars(module).values():
        own = isinstance(found, type) and issubclass(found, BaseModel) and found.__module__ == module.__name__
        if own and hasattr(found, "unit") and not (inspect.isabstract(found) or found.__name__.startswith("_")):
            return cast("type[Objective]", found)
    raise RecipeError(f"{module.__name__} defines no objective: a class with a unit and a loss")


def owners_of(key: str) -> str:
    """Name the objectives that have a key, `dpo` first; empty where none has it."""
    owners = [name for name in names_in(OBJECTIVES) if key in objective_class(name).model_fields]
    first = list(LOSS_FAMILIES)
    owners.sort(key=lambda name: first.index(name) if name in first else len(first))
    more = len(owners) - _SHOWN_OWNERS
    return ", ".join(owners[:_SHOWN_OWNERS]) + (f" and {more} more" if more > 0 else "")


def settle_margin(draft: Draft, objective: "type[Objective]") -> None:
    """Read the SimPO authors' `gamma_beta_ratio`: gamma divided by beta."""
    ratio = draft.settings.get("gamma_beta_ratio")
    if ratio is None or "simpo_gamma" not in objective.model_fields:
        return
    gamma, beta = draft.settings.get("simpo_gamma"), draft.settings.get("beta")
    del draft.settings["gamma_beta_ratio"]
    if gamma is not None:
        what = "'simpo_gamma' and 'gamma_beta_ratio' are two spellings of one margin: gamma, and gamma / beta"
        draft.faults.append(Fault(ratio.place, what, "keep one of the two"))
        return
    scale = _number(beta.value) if beta else float(objective.model_fields["beta"].default)
    share = _number(ratio.value)
    if share is None:
        draft.faults.append(Fault(ratio.place, f"expected a number, got {show(ratio.value)}"))
    elif scale is not None:
        origin = Origin("adjusted", f"gamma_beta_ratio {share:g} times beta {scale:g} ({ratio.origin})")
        draft.settings["simpo_gamma"] = Setting("simpo_gamma", ratio.spelled, share * scale, origin, ratio.place)


def _said(setting: Setting | None) -> list[Any]:
    """List what `loss_type` says; a comma separates names too."""
    if setting is None or setting.value is None:
        return []
    if isinstance(setting.value, str):
        return [part.strip() for part in setting.value.split(",")]
    return cast("list[Any]", setting.value) if isinstance(setting.value, list) else [setting.value]


def _set_weights_aside(draft: Draft, weights: Setting, setting: Setting | None) -> None:
    """Let a single loss of a later layer replace a list with its weights; weights of no list are a fault."""
    if setting and setting.origin.kind != weights.origin.kind and setting.origin.kind != "file":
        draft.note(weights, f"loss_type names a single loss ({setting.origin})")
        return
    what = "loss_weights weighs the losses of a list, and loss_type is none"
    draft.faults.append(Fault(weights.place, what, "write loss_type: [sigmoid, …] too, or remove the line"))


def _is_list(setting: Setting) -> bool:
    return isinstance(setting.value, list) or (isinstance(setting.value, str) and "," in setting.value)


def _named(verb: str, said: Any) -> str:
    """Return the objective that a loss type names under a command, or an empty string."""
    name = (LOSS_TYPES | LOSS_TYPES_OF.get(verb, {})).get(said, said) if isinstance(said, str) else ""
    return name if name in names_in(OBJECTIVES) else ""


def _alone(verb: str, draft: Draft, setting: Setting, name: str) -> tuple["type[Objective]", str]:
    if name != verb:
        draft.note(setting, LOSS_NOTES.get((verb, name), f"the objective is {name}"))
    return objective_class(name), name


def _faulty(verb: str, draft: Draft, setting: Setting, said: list[Any], names: list[str]) -> bool:
    """Say what is wrong with the losses a recipe names, and whether anything is."""
    before = len(draft.faults)
    unit = objective_class(verb).unit
    for index, (each, name) in enumerate(zip(said, names, strict=True)):
        place = setting.place_of((setting.key, index) if isinstance(setting.value, list) else (setting.key,))
        if not name:
            draft.faults.append(Fault(place, *_unknown(verb, each)))
        elif objective_class(name).unit != unit:
            what = f"{name} counts its loss by {objective_class(name).unit}, {verb} by {unit}"
            draft.faults.append(Fault(place, what, _known(verb)))
        elif name in names[:index]:
            draft.faults.append(Fault(place, f"{name} is named twice", "name it once, with the sum of its weights"))
    if len(draft.faults) == before and verb not in LOSS_FAMILIES and verb not in names:
        what = f"loss_type names {', '.join(map(str, said))}, and the command is {verb}"
        remedy = f"remove the line, or start `poise {names[0]}`"
        draft.faults.append(Fault(setting.place_of((setting.key,)), what, remedy))
    return len(draft.faults) > before


def _unknown(verb: str, said: Any) -> tuple[str, str]:
    near = did_you_mean(str(said), _types(verb))
    return f"there is no loss type {show(said)} for {verb}{near}", _known(verb)


def _known(verb: str) -> str:
    own = LOSS_FAMILIES.get(verb, verb)
    shown = [f"{own} ({verb})" if each == own and own != verb else each for each in _types(verb)]
    return f"there are {', '.join(shown)}"


def _types(verb: str) -> list[str]:
    """List the loss types that may stand under a command, its own first."""
    unit, own = objective_class(verb).unit, LOSS_FAMILIES.get(verb, verb)
    spelled = {name: said for said, name in (LOSS_TYPES | LOSS_TYPES_OF.get(verb, {})).items()}
    names = [name for name in names_in(OBJECTIVES) if _named(verb, name) == name and objective_class(name).unit == unit]
    return list(dict.fromkeys([own, *(spelled.get(name, name) for name in names if name != verb)]))


def _number(value: Any) -> float | None:
    """Read a number as the sections do, or return None."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
