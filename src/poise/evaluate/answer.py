"""An answer, and how it is drawn; apart from what makes it, so that judging needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a model said."""

    text: str
    tokens: int
    stopped: bool
    """Whether it ended by itself, with a stop token."""
    score: float | None


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: the likeliest at temperature 0, else drawn from the whole softmax."""

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
