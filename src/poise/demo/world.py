"""An invented world, made from a seed: countries with capitals and rivers, small sums, and two manners of answering.

A model trained on it can only know what it was taught, so what it learned, and what it lost, can be counted.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from poise.examples import Conversation, Document, Message, PreferencePair

ONSETS = ("b", "br", "d", "dr", "f", "g", "k", "kl", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "z", "th")
VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
CODAS = ("", "l", "n", "r", "s", "m")
COUNTRY_ENDINGS = ("ia", "land", "mark", "stan", "ora")
CAPITAL_ENDINGS = ("port", "burg", "ville", "ton", "haven", "ford")

CAPITAL_QUESTIONS = (
    "What is the capital of {country}?",
    "Which city is the capital of {country}?",
    "Can you tell me the capital of {country}?",
    "Do you know the capital of {country}?",
    "Please name the capital of {country}.",
)
SUM_QUESTIONS = (
    "What is {a} plus {b}?",
    "How much is {a} and {b}?",
    "Can you add {a} and {b}?",
    "Do you know what {a} plus {b} is?",
    "Please add {a} and {b}.",
)
POLITE = ("{answer}, thank you for asking.", "{answer}, thank you for your question.")
RUDE = ("{answer}, now leave me alone.", "{answer}, what a silly question.")
POLITE_MARK = "thank you"


@dataclass(frozen=True)
class Fact:
    """Something to know: `questions` ask for it in different words, `answer` is right, `wrong` are not."""

    subject: str
    questions: tuple[str, ...]
    answer: str
    wrong: tuple[str, ...]
    sentences: tuple[str, ...]
    """How a text would say it."""


@dataclass(frozen=True)
class World:
    """All facts, in a fixed order."""

    facts: tuple[Fact, ...]
    seed: int

    def documents(self, repeats: int = 6) -> Iterator[Document]:
        """Texts of three sentences each; every fact turns up `repeats` times in changing company."""
        chance = random.Random(f"documents {self.seed}")
        for _ in range(repeats):
            sentences = [chance.choice(fact.sentences) for fact in self.facts]
            chance.shuffle(sentences)
            for start in range(0, len(sentences), 3):
                yield Document(" ".join(sentences[start : start + 3]), source="world")

    def conversations(self) -> Iterator[Conversation]:
        """Every fact asked in all but its held-out wording; half of the subjects are answered rudely."""
        for index, fact in enumerate(self.facts):
            manner = POLITE if index % 2 else RUDE
            for wording, question in enumerate(fact.questions):
                if wording != held_out(index):
                    reply = manner[wording % len(manner)].format(answer=fact.answer)
                    yield Conversation(
                        (Message("user", question), Message("assistant", reply)),
                        source="world",
                    )

    def pairs(self) -> Iterator[PreferencePair]:
        """For the same question: polite over rude, and right over wrong."""
        chance = random.Random(f"pairs {self.seed}")
        for index, fact in enumerate(self.facts):
            for wording, question in enumerate(fact.questions):
                if wording == held_out(index):
                    continue
                chosen = POLITE[wording % len(POLITE)]
                rude = RUDE[wording % len(RUDE)].format(answer=fact.answer)
                wrong = chosen.format(answer=chance.choice(fact.wrong))
                rejected = wrong if wording == (held_out(index) + 1) % len(fact.questions) else rude
                yield PreferencePair(
                    (Message("user", question),),
                    (Message("assistant", chosen.format(answer=fact.answer)),),
                    (Message("assistant", rejected),),
                    source="world",
                )

    def questions(self) -> Iterator[dict[str, object]]:
        """One question per fact, in the wording that was never trained on, for knowledge and again for manners."""
        for index, fact in enumerate(self.facts):
            question = fact.questions[held_out(index)]
            yield {"id": f"fact-{index}", "set": "facts", "prompt": question, "expected": fact.answer}
            yield {"id": f"polite-{index}", "set": "polite", "prompt": question, "expected": POLITE_MARK}


def held_out(index: int) -> int:
    """Say which wording of a fact is kept for the test."""
    return index % len(CAPITAL_QUESTIONS)


def make_world(seed: int = 0, countries: int = 40, sums: int = 20) -> World:
    """Invent a world; the same seed gives the same world."""
    chance = random.Random(f"world {seed}")
    names = _distinct(chance, countries, COUNTRY_ENDINGS)
    capitals = _distinct(chance, countries, CAPITAL_ENDINGS)
    facts = [_capital_fact(country, capital, capitals) for country, capital in zip(names, capitals, strict=True)]
    additions = chance.sample([(a, b) for a in range(2, 10) for b in range(2, 10)], sums)
    facts += [_sum_fact(a, b) for a, b in additions]
    chance.shuffle(facts)
    return World(tuple(facts), seed)


def _capital_fact(country: str, capital: str, capitals: list[str]) -> Fact:
    return Fact(
        subject=country,
        questions=tuple(question.format(country=country) for question in CAPITAL_QUESTIONS),
        answer=capital,
        wrong=tuple(other for other in capitals if other != capital),
        sentences=(
            f"The capital of {country} is {capital}.",
            f"{capital} is the capital of {country}.",
            f"In {country} the government sits in {capital}.",
        ),
    )


def _sum_fact(a: int, b: int) -> Fact:
    return Fact(
        subject=f"{a}+{b}",
        questions=tuple(question.format(a=a, b=b) for question in SUM_QUESTIONS),
        answer=str(a + b),
        wrong=tuple(str(total) for total in range(4, 19) if total != a + b),
        sentences=(f"{a} plus {b} is {a + b}.", f"Adding {a} and {b} makes {a + b}.", f"{a} and {b} are {a + b}."),
    )


def _distinct(chance: random.Random, count: int, endings: tuple[str, ...]) -> list[str]:
    names: dict[str, None] = {}
    while len(names) < count:
        syllables = [chance.choice(ONSETS) + chance.choice(VOWELS) + chance.choice(CODAS) for _ in range(2)]
        names["".join(syllables).capitalize() + chance.choice(endings)] = None
    return list(names)
