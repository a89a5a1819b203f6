"""Refusals: the strict list and bagel's."""

import pytest

from poise.curate.refusals import refusal_in


@pytest.mark.parametrize(
    ("answer", "piece"),
    [
        ("As an AI language model, I have none.", "As an AI language model"),
        ("I am a large language model.", "I am a large language model"),
        ("As an AI, I must decline", "As an AI, I"),
        ("As an AI developed by Example Labs, I do not eat.", "As an AI developed by Example Labs, I"),
        ("Well, I’m just an AI assistant.", "I'm just an AI assistant."),
        ("OpenAI trained me", "OpenAI trained me"),
        ("I was created by Anthropic.", "I was created by Anthropic"),
        ("I don't have personal opinions", "I don't have personal opinions"),
        ("I'm sorry, but I can't assist with that.", "I'm sorry, but I can't assist"),
        ("I cannot provide it.", "I cannot provide"),
        ("Thanks! I am unable to answer your question.", "I am unable to answer your question"),
        ("My knowledge cutoff is in 2021.", "My knowledge cutoff"),
        ("As an\nAI language   model", "As an AI language model"),
    ],
)
def test_an_answer_that_refuses_is_told_by_the_piece(answer: str, piece: str) -> None:
    assert refusal_in(answer) == piece


@pytest.mark.parametrize(
    "answer",
    [
        "A language model predicts the next word.",
        "As an AI engineer, I train models.",
        "I'm an AI researcher.",
        "As an aide, I carry bags.",
        "Google made me laugh.",
        "I don't have personal experience with it.",
        "I'm sorry, but I can't come tonight.",
        "I can't help but smile.",
        "He said: I cannot provide it.",
        "The model's knowledge cutoff is in 2021.",
        "Sure. Please note that water boils at 100 degrees.",
    ],
)
def test_an_answer_that_is_near_a_refusal_is_none(answer: str) -> None:
    assert refusal_in(answer) is None


@pytest.mark.parametrize(
    ("answer", "piece"),
    [
        ("OpenAI is a company.", "OpenAI"),
        ("A Language Model predicts words.", "Language Model"),
        ("Sure. Please note that it is hot.", "Please note that"),
        ("That is illegal and dangerous.", "illegal and dangerous"),
        ("I do not possess consciousness.", "I do not possess consciousness"),
        ("Those are my limitations.", "my limitations"),
        ("I cannot see how you're feeling.", "I cannot see how you're"),
        ("We are unable to help with that.", "unable to help with that"),
    ],
)
def test_bagel_s_list_is_broad(answer: str, piece: str) -> None:
    assert refusal_in(answer, "bagel") == piece


@pytest.mark.parametrize("answer", ["Opening hours vary.", "A note: it is hot.", "I will see you tomorrow."])
def test_bagel_s_list_has_an_end(answer: str) -> None:
    assert refusal_in(answer, "bagel") is None
