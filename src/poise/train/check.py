"""Checks before the first step: shared and one-by-one scoring agree, and the reference is the policy."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from poise import progress
from poise.batch.batch import Batch, make_batch
from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.errors import DivergenceError, ModelError, PoiseError
from poise.train.model import Hardware
from poise.train.reference import Reference

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}
"""Largest difference in nats per token; float32 differs by a few 1e-6 where the computation is the same."""
LOW_PRECISION_TOLERANCE = 0.08
"""Mean difference in nats per token for 16-bit types, whose single tokens differ by rounding alone."""
TOKENS_CHECKED = 2048
LAYOUTS = {"shared": "prefix sharing", "packed": "packing without prefix sharing"}


class NotFiniteError(DivergenceError):
    """The model's log-probabilities of these rows are no numbers before anything was trained."""

    def __init__(self, message: str, rows: Sequence[Row]) -> None:
        super().__init__(message)
        self.rows = rows


def check_sharing(scorer: Scorer, rows: Sequence[Row], hardware: Hardware, wanted: str) -> str:
    """Score the first rows both ways; returns a sentence for the log.

    `wanted` is the recipe's prefix_sharing: `on` raises ModelError where they differ, `auto` falls back and says so.
    Raises NotFiniteError where the model's log-probabilities are no numbers.
    """
    batch = make_batch(_first(rows)).to(scorer.device)
    with _without_dropout(scorer), torch.no_grad(), hardware.computing():
        alone = scorer.one_by_one(batch).values
    _refuse_not_finite(alone, batch)
    if wanted == "off":
        scorer.compute("packed")
    difference, problem = _difference(scorer, batch, alone, hardware)
    problem = problem or _stretched_positions(scorer, rows)
    if problem is None:
        return (
            f"{LAYOUTS[scorer.way]} checked on {len(batch.rows)} rows: equal to one by one within {difference:.1e} "
            "nats per token"
        )
    kind = scorer.config.model_type
    if wanted == "on":
        raise ModelError(f"prefix_sharing: on, but for {kind} {problem}\n    to do:  set prefix_sharing=auto")
    sentence = f"{LAYOUTS[scorer.way]} does not fit {kind} ({problem}); every sequence is computed alone"
    scorer.compute("alone")
    _, problem = _difference(scorer, batch, alone, hardware)
    if problem is not None:
        scorer.own_logits = True
        sentence += f", with logits over the whole vocabulary for every token ({problem})"
    progress.say(f"warning: {sentence}")
    return sentence


def _stretched_positions(scorer: Scorer, rows: Sequence[Row]) -> str | None:
    """Say so where rotary positions stretch with the longest sequence in sight: a row's scores would depend on others.

    Such positions (dynamic NTK; LongRoPE, arXiv:2402.13753) stretch beyond a length that the first rows need not reach.
    """
    config = scorer.config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or {}
    longest = max(length for row in rows for length in row.sequence_lengths())
    for rope in (parameters, *(each for each in parameters.values() if isinstance(each, dict))):
        if rope.get("rope_type") in ("dynamic", "longrope"):
            limit = rope.get("original_max_position_embeddings") or config.max_position_embeddings
            if longest > limit:
                kind = rope["rope_type"]
                return f"{kind} positions stretch beyond {limit:,} tokens, the longest sequence has {longest:,}"
    return None


def _difference(scorer: Scorer, batch: Batch, alone: Tensor, hardware: Hardware) -> tuple[float, str | None]:
    """Score the batch in the scorer's way; returns nats per token beside `alone`, and what is wrong, None if nothing.

    Whatever a model raises here is a reason not to compute it that way, but for memory, of which less would be left.
    """
    try:
        with _without_dropout(scorer), torch.no_grad(), hardware.computing():
            differences = (scorer(batch).values - alone).abs()
    except torch.OutOfMemoryError:
        raise
    except (PoiseError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        return float("nan"), (str(error).strip() or type(error).__name__).splitlines()[0]
    exact = hardware.dtype in TOLERANCE and not hardware.autocast and not hardware.rounds_products
    worst = float(differences.max() if exact else differences.mean())
    if worst <= (TOLERANCE[hardware.dtype] if exact else LOW_PRECISION_TOLERANCE):
        return worst, None
    return worst, f"log-probabilities differ by {worst:.2g} nats per token"


def check_reference(scorer: Scorer, rows: Sequence[Row], reference: Reference, hardware: Hardware) -> None:
    """Refuse to train when the policy does not start where the reference stands (log-ratio 0 at step 0)."""
    batch = make_batch(_first(rows)).to(scorer.device)
    with _without_dropout(scorer), torch.no_grad(), hardware.computing():
        policy = scorer(batch)
    ratio = (policy.values - reference.logps(batch).values).abs().mean()
    if not float(ratio) <= LOW_PRECISION_TOLERANCE:
        raise DivergenceError(
            f"the reference is not the policy at the start: their log-probabilities differ by {float(ratio):.3g} nats "
            "per token.\n    why:    rewards would be measured from another model\n"
            "    to do:  remove ref_model_name_or_path, or delete the stored reference if weights changed under it"
        )


@contextmanager
def _without_dropout(scorer: Scorer) -> Generator[None]:
    was_training = scorer.training
    scorer.eval()
    try:
        yield
    finally:
        scorer.train(was_training)


def _refuse_not_finite(logps: torch.Tensor, batch: Batch) -> None:
    """Stop before anything is trained where the model itself gives no numbers."""
    broken = torch.unique(batch.owners[~logps.isfinite()]).tolist()
    if not broken:
        return
    row_of_segment = [row for row in batch.rows for _ in row.segments]
    rows = {row_of_segment[segment].id: row_of_segment[segment] for segment in broken}
    raise NotFiniteError(
        "step 0: the model as loaded gives log-probabilities that are not finite\n"
        f"    rows:   {', '.join(f'{row.id} ({row.place})' for row in list(rows.values())[:8])}\n"
        "    to do:  its weights hold NaN or infinity, or overflow in this type; load other weights or torch_dtype",
        list(rows.values()),
    )


def _first(rows: Sequence[Row]) -> list[Row]:
    chosen: list[Row] = [rows[0]]
    for row in rows[1:16]:
        if sum(each.tokens for each in chosen) + row.tokens > TOKENS_CHECKED:
            break
        chosen.append(row)
    return chosen if len(chosen) > 1 else chosen * 2  # one sequence alone cannot show that rows mix
