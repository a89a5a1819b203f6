"""Preference rows in the shapes of six published data sets, made of words that are one token each.

Median length of prompt + one answer, and median ratio of prompt to answer, of Wang and Hegde 2024 (arXiv:2410.20305),
who share prefixes for DPO too:

    capybara 1160 / 1.59    hh-rlhf 186 / 2.15      metamath 872 / 3.91
    tldr      416 / 11.14   helpsteer 775 / 6.34    ultrafeedback 409 / 0.42

Only medians are published. Prompt and each of the two answers are drawn independently, log-normal with sigma 0.4
around P = T r / (1 + r) and C = T / (1 + r), at least 8 tokens each, a pair cut to max_length. The words mean nothing:
lengths alone decide the time.
"""

import random
from dataclasses import dataclass
from typing import Any

SIGMA = 0.4
"""Spread of the log of every length: two thirds of them lie within a factor of 1.5 of the median."""
SHORTEST = 8
PROMPT_OVERHEAD, ANSWER_OVERHEAD = 5, 1
"""Tokens that the template adds: <|im_start|> user … <|im_end|> <|im_start|> assistant, and … <|im_end|>."""
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|unk|>")
ROLES = ("system", "user", "assistant")
VOCABULARY = 4096
MAX_LENGTH = 4096
BATCH = 8
FEWEST_ROWS = 2 * BATCH


@dataclass(frozen=True)
class Shape:
    """What is published of a data set's lengths."""

    tokens: int
    """Median of prompt + one answer."""
    ratio: float
    """Median of prompt / answer."""

    @property
    def prompt(self) -> float:
        """Median tokens of a prompt."""
        return self.tokens * self.ratio / (1 + self.ratio)

    @property
    def answer(self) -> float:
        """Median tokens of an answer."""
        return self.tokens / (1 + self.ratio)


SHAPES = {
    "capybara": Shape(1160, 1.59),
    "hh-rlhf": Shape(186, 2.15),
    "metamath": Shape(872, 3.91),
    "tldr": Shape(416, 11.14),
    "helpsteer": Shape(775, 6.34),
    "ultrafeedback": Shape(409, 0.42),
}
FILE = "file"
"""The name of the data set that `--data` names."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of one pair's segments as the model sees them, the template's included."""

    prompt: int
    chosen: int
    rejected: int

    @property
    def unshared(self) -> int:
        """Tokens of both sequences, each with its own prompt."""
        return 2 * self.prompt + self.chosen + self.rejected


def draw_lengths(shape: Shape, seed: int, *, tokens: int, rows: int | None = None) -> list[Lengths]:
    """Draw `rows` pairs, or whole batches of them until their unshared tokens are about `tokens`, 16 at least."""
    chance = random.Random(f"{seed} {shape}")
    drawn: list[Lengths] = []
    while len(drawn) != rows if rows else not enough(drawn, tokens):
        drawn.append(_draw(shape, chance))
    return drawn


def enough(drawn: list[Lengths], tokens: int) -> bool:
    """Whether these rows make an epoch of whole batches with at least `tokens` unshared tokens."""
    whole = len(drawn) >= FEWEST_ROWS and len(drawn) % BATCH == 0
    return whole and sum(each.unshared for each in drawn) >= tokens


def vocabulary() -> dict[str, int]:
    """Return 4,096 words and their ids: special tokens, roles, and words that say nothing."""
    words = (*SPECIAL, *ROLES)
    words += tuple(f"w{index}" for index in range(VOCABULARY - len(words)))
    return {word: index for index, word in enumerate(words)}


def pairs(lengths: list[Lengths], seed: int) -> list[dict[str, Any]]:
    """Write random words of these lengths as rows of prompt, chosen and rejected."""
    chance = random.Random(seed)
    return [
        {
            "prompt": [_turn("user", each.prompt - PROMPT_OVERHEAD, chance)],
            "chosen": [_turn("assistant", each.chosen - ANSWER_OVERHEAD, chance)],
            "rejected": [_turn("assistant", each.rejected - ANSWER_OVERHEAD, chance)],
        }
        for each in lengths
    ]


def _draw(shape: Shape, chance: random.Random) -> Lengths:
    answers = [_length(shape.answer, MAX_LENGTH - SHORTEST, chance) for _ in range(2)]
    return Lengths(_length(shape.prompt, MAX_LENGTH - max(answers), chance), *answers)


def _length(median: float, longest: int, chance: random.Random) -> int:
    return min(max(round(median * chance.lognormvariate(0, SIGMA)), SHORTEST), longest)


def _turn(role: str, words: int, chance: random.Random) -> dict[str, str]:
    choices = range(VOCABULARY - len(SPECIAL) - len(ROLES))
    return {"role": role, "content": " ".join(f"w{word}" for word in chance.choices(choices, k=words))}
