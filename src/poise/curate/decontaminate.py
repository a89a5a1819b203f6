"""Rows that give a test question away: a user turn, or a document, equal to it but for case and spacing."""

import re
from collections.abc import Iterable

from poise.curate.reason import Reason
from poise.examples import Conversation, Document, Example, LabeledConversation


class Leaks:
    """Test questions, compared in lower case with every run of white space as one space."""

    def __init__(self, questions: Iterable[str]) -> None:
        self._questions = {normalised(question) for question in questions} - {""}

    def judge(self, example: Example) -> Reason | None:
        """Return why an Example is dropped, or None."""
        found = next((text for text in _asked(example) if normalised(text) in self._questions), None)
        return None if found is None else Reason("holds a test question", found[:120])


def normalised(text: str) -> str:
    """Fold case and white space."""
    return re.sub(r"\s+", " ", text).strip().casefold()


def _asked(example: Example) -> list[str]:
    if isinstance(example, Document):
        return [example.text]
    whole = isinstance(example, Conversation | LabeledConversation)
    messages = example.messages if whole else example.prompt
    return [message.content for message in messages if message.role == "user"]
