"""Checks before the first step: shared and one-by-one scoring agree, and the reference is the policy."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch

from poise import progress
from poise.batch.batch import Batch, make_batch
from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.errors import DivergenceError, ModelError
from poise.train.model import Hardware
from poise.train.reference import Reference

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}
"""Largest difference in nats per token; float32 differs by a few 1e-6 where the computation is the same."""
LOW_PRECISION_TOLERANCE = 0.08
"""Mean difference in nats per token for 16-bit types, whose single tokens differ by rounding alone."""
TOKENS_CHECKED = 2048


def check_sharing(scorer: Scorer, rows: Sequence[Row], hardware: Hardware, wanted: str) -> str:
    """Score the first rows both ways; returns a sentence for the log.

    `wanted` is the recipe's prefix_sharing: `on` raises ModelError where they differ, `auto` falls back and says so.
    Raises DivergenceError where the model's log-probabilities are no numbers.
    """
    batch = make_batch(_first(rows)).to(scorer.device)
    with _without_dropout(scorer), torch.no_grad(), hardware.computing():
        alone = scorer.one_by_one(batch).values
    _refuse_not_finite(alone, batch)
    if wanted == "off":
        scorer.share_prefixes(False)
        return "prefix sharing is off: every sequence is computed alone"
    try:
        with _without_dropout(scorer), torch.no_grad(), hardware.computing():
            difference = (scorer(batch).values - alone).abs()
        exact = hardware.dtype in TOLERANCE and not hardware.autocast
        worst = float(difference.max() if exact else difference.mean())
        problem = None
        if not worst <= (TOLERANCE[hardware.dtype] if exact else LOW_PRECISION_TOLERANCE):
            problem = f"log-probabilities differ by {worst:.2g} nats per token"
    except (ModelError, TypeError, ValueError) as error:
        worst, problem = float("nan"), str(error).splitlines()[0]
    if problem is None:
        return (
            f"prefix sharing checked on {len(batch.rows)} rows: equal to one by one within {worst:.1e} nats per token"
        )
    if wanted == "on":
        raise ModelError(f"prefix_sharing: on, but for {scorer.config.model_type} {problem}; set prefix_sharing=auto")
    scorer.share_prefixes(False)
    sentence = f"prefix sharing does not fit {scorer.config.model_type} ({problem}); every sequence is computed alone"
    progress.say(f"warning: {sentence}")
    return sentence


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
    rows = dict.fromkeys(f"{row_of_segment[segment].id} ({row_of_segment[segment].place})" for segment in broken)
    raise DivergenceError(
        "step 0: the model as loaded gives log-probabilities that are not finite\n"
        f"    rows:   {', '.join(list(rows)[:8])}\n"
        "    to do:  its weights hold NaN or infinity, or overflow in this type; load other weights or torch_dtype"
    )


def _first(rows: Sequence[Row]) -> list[Row]:
    chosen: list[Row] = [rows[0]]
    for row in rows[1:16]:
        if sum(each.tokens for each in chosen) + row.tokens > TOKENS_CHECKED:
            break
        chosen.append(row)
    return chosen if len(chosen) > 1 else chosen * 2  # one sequence alone cannot show that rows mix
