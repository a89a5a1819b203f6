"""A weighted sum of losses on the same items, as one objective.

    L = sum_k w_k L_k        loss_type: [sigmoid, bco_pair, sft]    loss_weights: [0.8, 0.2, 1.0]

Those are MPO's (Wang et al. 2024, arXiv:2411.10442); DPO plus the likelihood of the chosen answers is RPO (Pang et al.
2024, arXiv:2404.19733). The keys of a sum are those of its parts together. A key that several parts have is one key
with one value; a part that does not have it is not touched by it.
"""

from collections.abc import Sequence
from functools import cache, cached_property
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, create_model, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from poise.batch.logps import Logps
from poise.batch.objective import MovingReference, Objective
from poise.batch.row import Row

Parts = tuple[tuple[str, type[Objective]], ...]
"""The losses of a sum by the names its recipe gives them."""


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    return value


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_no_bool)]


class WeightedSum(Objective):
    """Base of the sums; `weighted_sum` makes the class for given parts."""

    parts: ClassVar[Parts] = ()
    shared_defaults: ClassVar[dict[str, str]] = {}
    """Keys on whose default the parts differ, each with whose it is and what the others would take alone."""

    loss_type: list[str]
    """The losses, by name."""
    loss_weights: list[Weight]
    """The weight of each, in the same order."""

    @model_validator(mode="after")
    def _check_weights(self) -> "WeightedSum":
        if self.loss_type != [name for name, _ in self.parts]:
            raise _wrong("loss_type", f"this sum is of {', '.join(name for name, _ in self.parts)}")
        if len(self.loss_weights) != len(self.parts):
            what = f"{len(self.loss_weights)} weights for {len(self.parts)} losses"
            raise _wrong("loss_weights", what, "give each entry of loss_type one weight, in the same order")
        if not any(self.loss_weights):
            raise _wrong("loss_weights", "all weights are 0, so nothing would be learned", "make one of them positive")
        return self

    @cached_property
    def _objectives(self) -> tuple[Objective, ...]:
        return tuple(
            objective.model_validate({key: getattr(self, key) for key in objective.model_fields})
            for _, objective in self.parts
        )

    @property
    def needs_collision(self) -> bool:
        """Whether one of the parts reads it."""
        return any(objective.needs_collision for objective in self._objectives)

    @property
    def moving_reference(self) -> MovingReference | None:
        """How the reference follows the policy: the same for all parts, which share those keys."""
        moves = (objective.moving_reference for objective in self._objectives)
        return next((each for each in moves if each is not None), None)

    @property
    def idle(self) -> dict[str, str]:
        """Keys that act in none of the parts that have them."""
        why = {key: reason for objective in self._objectives for key, reason in objective.idle.items()}
        acting = {key for each in self._objectives for key in type(each).model_fields if key not in each.idle}
        return {key: reason for key, reason in why.items() if key not in acting}

    def remarks(self, rows: Sequence[Row]) -> list[str]:
        """Say what the parts say, once."""
        return list(dict.fromkeys(line for objective in self._objectives for line in objective.remarks(rows)))

    def __call__(self, policy: Logps, reference: Logps | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (items,) and metrics: those of the first part that has rewards, and each part's own loss."""
        told = [objective(policy, reference) for objective in self._objectives]
        metrics = next((each for _, each in told if "rewards/chosen" in each), told[0][1])
        by_part = {f"loss/{name}": losses.detach() for (name, _), (losses, _) in zip(self.parts, told, strict=True)}
        weighted = (weight * losses for weight, (losses, _) in zip(self.loss_weights, told, strict=True) if weight)
        total = next(weighted)
        for losses in weighted:
            total = total + losses
        return total, metrics | by_part


@cache
def weighted_sum(parts: Parts) -> type[WeightedSum]:
    """Make the objective that sums these; ValueError where they do not count by the same unit."""
    objectives = [objective for _, objective in parts]
    if len({objective.unit for objective in objectives}) != 1:
        raise ValueError(f"{', '.join(f'{name} by {objective.unit}' for name, objective in parts)}: not one unit")
    fields: dict[str, Any] = {
        "loss_type": (list[str], Field(default=[name for name, _ in parts])),
        "loss_weights": (list[Weight], Field(default=[1.0] * len(parts))),
    }
    told: dict[str, str] = {}
    for key in dict.fromkeys(key for objective in objectives for key in objective.model_fields):
        fields[key], told[key] = _shared_field(parts, key)
    made = create_model("WeightedSum", __base__=WeightedSum, __module__=__name__, **fields)
    made.parts, made.unit = parts, objectives[0].unit
    made.shared_defaults = {key: text for key, text in told.items() if text}
    made.rows = tuple(kind for kind in objectives[0].rows if all(kind in other.rows for other in objectives))
    made.needs_reference = any(objective.needs_reference for objective in objectives)
    made.whole_step = any(objective.whole_step for objective in objectives)
    made.needs_mismatched = any(objective.needs_mismatched for objective in objectives)
    return made


def _shared_field(parts: Parts, key: str) -> tuple[tuple[Any, Any], str]:
    """Return a key's (type, default) within all parts' bounds, and what to say of a default on which they differ.

    The default is that of the first part whose own all others accept.
    """
    having = [(name, objective.model_fields[key]) for name, objective in parts if key in objective.model_fields]
    bounds = [bound for _, field in having for bound in field.metadata]
    annotation: Any = having[0][1].annotation
    for bound in bounds:
        annotation = Annotated[annotation, bound]
    owner, default = next((name, each.default) for name, each in having if _accepts(annotation, each.default))
    others = [f"{each.default} with {name} alone" for name, each in having if each.default != default]
    return (annotation, Field(default=default)), f"default of {owner} ({', '.join(others)})" if others else ""


def _accepts(annotation: Any, value: Any) -> bool:
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def _wrong(key: str, what: str, remedy: str = "") -> PydanticCustomError:
    """Return the error of a check over several keys, to be shown at `key` of the recipe."""
    return PydanticCustomError("recipe", "{what}", {"key": key, "what": what, "remedy": remedy})
