"""Quality: answers that refuse, say nothing, repeat themselves, are damaged, too short or long, or in another language.

Every rule looks at the answers that training makes more likely, never at what a user or the system says, nor at a
rejected answer. Of a document, whose text is no answer, only repetition, damage, emptiness and language are judged.
"""

import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Literal

from pydantic import Field, field_validator

from poise.curate.damage import damage_in
from poise.curate.language import KNOWN, language_of
from poise.curate.reason import Reason
from poise.curate.refusals import refusal_in
from poise.curate.repetition import repetition_in
from poise.curate.step import Judge
from poise.curate.texts import answers, user_turns
from poise.examples import Document, Example, LabeledConversation
from poise.names import did_you_mean


class Quality(Judge):
    """Which answers are good enough; each rule can be switched off."""

    refusals: Literal["off", "strict", "bagel"] = "strict"
    """`strict`: an assistant declines, or speaks of being an AI model. `bagel`: the broad list of jondurbin/bagel, to
    which `please note that` is a refusal too."""
    empty: bool = True
    """Drop rows whose last answer is missing, or only white space and punctuation."""
    repeated: bool = True
    """Drop documents that repeat lines, sentences or words over the shares of MassiveText; answers by lines, sentences,
    loops, and words where most of them repeat, because a sound answer keeps to its terms."""
    damaged: bool = True
    """Drop mojibake, replacement and control characters, and HTML entities left over."""
    languages: tuple[str, ...] | None = None
    """Keep answers in these languages only, by ISO 639-1 code. An answer too short to tell goes by what the user says;
    what cannot be told stays."""
    min_words: int | None = Field(default=None, gt=0)
    """Drop rows whose wanted answers have fewer words together."""
    max_words: int | None = Field(default=None, gt=0)
    """Drop rows whose wanted answers have more words together."""

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, languages: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for code in languages or ():
            if code not in KNOWN:
                raise ValueError(f"{code!r} cannot be told{did_you_mean(code, KNOWN)}; one of {', '.join(KNOWN)}")
        return languages

    def judge(self, example: Example) -> Reason | None:
        """Return why a row is dropped, or None."""
        if self.empty and (reason := _emptiness(example)):
            return reason
        wanted = answers(example)
        judges: list[Callable[[str], Reason | None]] = []
        if not isinstance(example, Document):
            if reason := self._words(wanted):
                return reason
            judges.append(self._refusal)
        repeats = partial(repetition_in, answer=not isinstance(example, Document))
        judges += [judge for judge, asked in ((damage_in, self.damaged), (repeats, self.repeated)) if asked]
        told = (reason for judge in judges for answer in wanted if (reason := judge(answer)))
        return next(told, None) or self._language(example, wanted)

    def _refusal(self, answer: str) -> Reason | None:
        found = None if self.refusals == "off" else refusal_in(answer, self.refusals)
        return None if found is None else Reason("refusal", found)

    def _words(self, wanted: list[str]) -> Reason | None:
        if not wanted or (self.min_words is None and self.max_words is None):
            return None
        words = sum(len(answer.split()) for answer in wanted)
        if self.min_words is not None and words < self.min_words:
            return Reason("too few words", f"{words:,} < {self.min_words:,}")
        if self.max_words is not None and words > self.max_words:
            return Reason("too many words", f"{words:,} > {self.max_words:,}")
        return None

    def _language(self, example: Example, wanted: list[str]) -> Reason | None:
        if not self.languages or not wanted:
            return None
        found = language_of("\n".join(wanted)) or language_of("\n".join(user_turns(example)))
        return Reason("other language", found) if found is not None and found not in self.languages else None


def _emptiness(example: Example) -> Reason | None:
    """Judge the last answer; that of an undesirable conversation must say something too."""
    if isinstance(example, LabeledConversation):
        given = [message.content for message in example.messages if message.role == "assistant"]
    else:
        given = answers(example)
    if not given:
        return Reason("empty answer", "no answer")
    return None if any(map(_says_something, given[-1])) else Reason("empty answer", repr(given[-1]))


def _says_something(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] not in "PZC"
