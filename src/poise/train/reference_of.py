"""The reference that a recipe's objective compares with: the policy itself, another model, or one that moves."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.cache import cache_folder
from poise.recipe import Recipe
from poise.train.check import check_reference
from poise.train.model import Hardware, load_model
from poise.train.moving import FollowingReference
from poise.train.reference import Reference, reference_for


def reference_store(recipe: Recipe) -> Path | None:
    """Where a recipe keeps reference log-probabilities."""
    if isinstance(recipe.poise.reference_cache, str):
        return Path(recipe.poise.reference_cache)
    return cache_folder() if recipe.poise.reference_cache else None


def make_reference(
    recipe: Recipe,
    rows: Sequence[Row],
    scorer: Scorer,
    hardware: Hardware,
    sha256: str,
    tokens: int,
    *,
    store: Path | None,
) -> Reference | FollowingReference | None:
    """Make the reference that a recipe's objective compares with, for these rows; None where it needs none."""
    if not recipe.objective.needs_reference:
        return None
    moves = recipe.objective.moving_reference
    if moves is not None:
        return FollowingReference(scorer, moves)
    other = recipe.model.ref_model_name_or_path
    with hardware.computing():
        if other is None:
            reference = reference_for(rows, scorer, sha256, tokens=tokens, store=store)
        else:
            frozen = load_model(recipe.model, hardware, name=other)
            reference = reference_for(
                rows, _scorer_like(scorer, frozen.model), frozen.sha256, tokens=tokens, store=store
            )
    if other is None:
        check_reference(scorer, rows, reference, hardware)
    return reference


def _scorer_like(scorer: Scorer, model: Any) -> Scorer:
    """Score another model the way the policy is scored."""
    other = Scorer(model, way=scorer.way)
    other.kernel, other.own_logits = scorer.kernel, scorer.own_logits
    return other


def reference_facts(reference: Reference | FollowingReference | None) -> dict[str, Any] | None:
    """Describe it for the manifest."""
    if reference is None:
        return None
    if isinstance(reference, FollowingReference):
        return {"follows": dataclasses.asdict(reference.moves)}
    return {
        "sha256": reference.weights_sha256,
        "cached": reference.cached,
        "computed": reference.computed,
        "seconds": round(reference.seconds, 3),
    }
