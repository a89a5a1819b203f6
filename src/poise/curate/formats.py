"""Prompt formats of rows, and conversations cut into one row per answer: how bagel taught one row in several forms.

    all       alpaca vicuna llama-2 chatml     every row in every format                    4 of 4
    slices    alpaca   .    llama-2 chatml     in all but one, which differs by row         3 of 4
    one         .      .    llama-2   .        in one                                       1 of 4

jondurbin/bagel rendered every row four times at first, later four overlapping slices of 75 %: three times each row.
Test rows are split off by question before any of this, or one question stands on both sides in other clothes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from poise.curate.selection import Seed, Texts, hashes
from poise.errors import RecipeError
from poise.examples import Conversation, Document
from poise.names import did_you_mean

Format = Literal["alpaca", "vicuna", "llama-2", "chatml", "tokenizer"]
"""A template of poise.batch.templates, or the tokenizer's own."""
Policy = Literal["all", "one", "slices"]
FORMATS: tuple[Format, ...] = get_args(Format)


def formats_of(
    ids: Texts, kinds: Sequence[str], formats: Sequence[Format], policy: Policy, seed: Seed
) -> list[tuple[Format, ...]]:
    """Return each row's formats, in the order given; a document has no prompt and gets none."""
    _check(formats, policy)
    every = tuple(formats)
    if policy == "all":
        choices = [every]
    elif policy == "one":
        choices = [(each,) for each in every]
    else:
        choices = [tuple(other for other in every if other != left_out) for left_out in every]
    drawn = (hashes(ids, seed, "formats") % len(choices)).tolist()
    return [() if kind == Document.kind else choices[each] for each, kind in zip(drawn, kinds, strict=True)]


def expanded(conversation: Conversation) -> list[Conversation]:
    """Return the conversation up to each of its answers, of which the last is what the row is about.

    What follows the last answer is left out; a conversation without an answer stays as it is.
    """
    messages = conversation.messages
    ends = [index for index, message in enumerate(messages, start=1) if message.role == "assistant"]
    return [replace(conversation, messages=messages[:end]) for end in ends] or [conversation]


def _check(formats: Sequence[str], policy: Policy) -> None:
    for name in formats:
        if name not in FORMATS:
            raise RecipeError(
                f"formats: {name!r} is no prompt format{did_you_mean(name, FORMATS)}\n"
                f"    to do:  one or several of {', '.join(FORMATS)}"
            )
    if len(set(formats)) < max(len(formats), 1):
        raise RecipeError("formats: give at least one, and none twice\n    to do:  list each format once")
    if policy == "slices" and len(formats) < 2:
        raise RecipeError(
            "formats: slices of a single format hold no row\n"
            "    why:    every row is left out of one slice\n"
            "    to do:  list two formats or more, or take the policy all"
        )
