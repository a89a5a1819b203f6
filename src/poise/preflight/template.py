"""The chat template against tokenizer, rows and model: bos, stop token, turns that are not trained."""

from collections.abc import Iterator, Sequence

import numpy as np

from poise.batch.row import Row, Segment
from poise.batch.tokens import PreparedTokenizer, render_text
from poise.examples import Conversation, Message
from poise.preflight.finding import Finding, places, share
from poise.preflight.known import Known


def check_bos(known: Known) -> Iterator[Finding]:
    """Look for a bos written twice where a conversation begins."""
    prepared = known.tokenizer
    bos = prepared.tokenizer.bos_token if prepared else None
    if prepared is None or not isinstance(bos, str):
        return
    text = render_text(prepared.tokenizer, [Message("user", "?")], generation=True)
    if text.replace(" ", "").startswith(bos * 2):
        yield Finding("W304", f"the template ({prepared.template_name}) begins with {bos}{bos}")


def check_eos(known: Known) -> Iterator[Finding]:
    """Compare the recipe's eos token with the one that answers end in."""
    said, prepared = known.recipe.model.eos_token, known.tokenizer
    if said is None or prepared is None:
        return
    stop = prepared.tokenizer.eos_token
    if said != stop:
        yield Finding("W305", f"eos_token: {said}, and answers end in {stop}", f"eos_token={stop}")


def check_own_template(known: Known) -> Iterator[Finding]:
    """Where a reference is compared with, the template should be the one the model was made with."""
    prepared = known.tokenizer
    if prepared is None or not known.recipe.objective.needs_reference or prepared.own_template is None:
        return
    if prepared.own_template != prepared.tokenizer.chat_template:
        yield Finding("W306", f"chat_template: {prepared.template_name}, and the model brings one of its own")


def check_stops(known: Known) -> Iterator[Finding]:
    """Every answer ends in a stop token that is trained, and every row trains something."""
    if known.tokenizer is None or known.recipe.objective.rows == ("document",):
        return
    stops = known.tokenizer.stop_ids
    broken = [row for row in known.rows if not all(_stops(each, stops) for each in _answers(row))]
    if broken:
        named = known.tokenizer.tokenizer.convert_ids_to_tokens(list(stops))
        what = f"{share(len(broken), len(known.rows))} have an answer whose trained tokens do not end in "
        yield Finding("E307", what + " or ".join(named), rows=places(broken))


def _answers(row: Row) -> Sequence[Segment]:
    """Return the segments that hold answers: those that continue a prompt, else the roots."""
    children = [segment for segment in row.segments if segment.parent >= 0]
    return children or row.segments


def _stops(segment: Segment, stops: Sequence[int]) -> bool:
    trained = np.flatnonzero(segment.trained)
    return len(trained) > 0 and int(segment.ids[trained[-1]]) in stops


def check_turns(known: Known) -> Iterator[Finding]:
    """Count conversations of which earlier answers are context only, by the stop tokens that are trained."""
    prepared = known.tokenizer
    if prepared is None or known.recipe.verb != "sft" or known.recipe.data.packing:
        return
    turns = {
        example.id: sum(message.role == "assistant" for message in example.messages)
        for example in known.train
        if isinstance(example, Conversation)
    }
    partly = [row for row in known.rows if 0 < _trained_turns(row, prepared) < turns.get(row.id, 0)]
    if partly and known.recipe.data.overlong == "drop":
        what = f"in {share(len(partly), len(known.rows))} only later assistant turns are trained"
        yield Finding("N308", what, rows=places(partly))


def _trained_turns(row: Row, prepared: PreparedTokenizer) -> int:
    """Count the trained stretches of a row."""
    (segment,) = row.segments
    return int((np.diff(segment.trained.astype(np.int8), prepend=0) == 1).sum())
