"""Answers in which an assistant declines, or speaks of being an AI model.

    strict    I'm sorry, but I can't assist with that. · As an AI language model, … · OpenAI trained me …
    bagel     these, and `important to note`, `please note that`, `illegal and dangerous`, `my abilities`, …

`bagel` is the meaning of jondurbin/bagel's list (data_sources/util.py). There the flag for case stood where the start
position belongs, so that it looked for lower case from the third character on; here every text is searched whole and in
any case of letters, which drops more rows than bagel did.
"""

import re
from typing import Literal

CANNOT = r"\bi(?: can't| cannot| can not| won't| will not|(?: a|')m (?:unable|not able|not allowed|not programmed) to)"
KINDS_OF_AI = r"(?:ai|artificial intelligence)(?: assistant| model| chatbot| program| system)?"
MADE = r"(?:trained|created|developed|built|programmed|designed)"
NAMES = ("openai", "anthropic", "google", "meta ai", "microsoft", "deepmind", "mistral ai")
MAKERS = f"(?:{'|'.join(NAMES)})"
UNABLE = (
    "i can't", "i cannot", "i can not", "i won't", "i will not", "i am unable", "i'm unable", "i am not", "i'm not",
)  # fmt: skip
HELP = (
    r"(?:assist|fulfill?|comply|provide|generate|engage in|participate in|help(?: you| with|[.,;!]|$)"
    r"|(?:do|answer|create|write|support|discuss|complete) (?:this|that|such|your|content|illegal|harmful)\b)"
)
Phrase = tuple[tuple[str, ...], re.Pattern[str]]
"""Pieces of which one must be there, which is fast to tell, and the pattern; both see lower case and single spaces."""

STRICT: tuple[Phrase, ...] = (
    (
        ("language model",),
        re.compile(
            r"\b(?:as|i am|i'm|being)(?: just| only| merely)? an? (?:large |ai |artificial intelligence )*"
            r"language model\b"
        ),
    ),
    (
        ("as an ai", "as an artificial"),
        re.compile(rf"\bas an {KINDS_OF_AI}(?: {MADE}\b[^.!?]{{0,40}}?)?,? (?:i|i'm|my)\b"),
    ),
    (
        ("an ai", "an artificial"),
        re.compile(
            rf"\bi(?: a|')m (?:just |only |merely )?an {KINDS_OF_AI}"
            rf"(?:[,.;:!?]| (?:and|so) (?:i|do|don't|can't|cannot|therefore)\b| {MADE}\b|$)"
        ),
    ),
    (NAMES, re.compile(rf"\b{MAKERS} (?:has )?{MADE} me\b|\bi was {MADE} by {MAKERS}\b")),
    (
        ("personal ",),
        re.compile(
            r"\bi (?:do not|don't|cannot|can't) (?:have|hold|possess|express) (?:any )?personal "
            r"(?:opinion|feeling|belief|emotion|preference|view|desire)s?\b"
        ),
    ),
    (
        UNABLE,
        re.compile(
            rf"{CANNOT} (?:fulfill?|assist(?: you)? with|comply with|help(?: you)? with|complete|answer) "
            r"(?:this|that|your|the|such)(?: \w+)? (?:request|question|task|query|prompt)"
        ),
    ),
    (
        ("my programming", "my guidelines", "polic", "my knowledge cut", "training data"),
        re.compile(
            r"\b(?:my programming (?:does not|doesn't|prevents|prohibits|forbids)|against my (?:programming|guidelines)"
            r"|my (?:content|usage|safety) polic(?:y|ies)|my knowledge cut-?off|my (?:last )?training data)\b"
        ),
    ),
)
OPENING = re.compile(
    r"\W*(?:(?:i'm sorry|i am sorry|sorry|i apologi[sz]e|my apologies|unfortunately)[,.;:!]?(?: but)? )?"
    rf"(?:as an ai[^,.]*, )?{CANNOT} (?:\w+ly )?{HELP}"
)
"""How a whole answer begins that declines, in the strict list."""
BAGEL: tuple[Phrase, ...] = (
    (("openai",), re.compile("openai")),
    (("language model", "large language"), re.compile("language model|large language")),
    (("as a",), re.compile(r"\bas an? (?:ai|generative language|gpt|bot)\b")),
    (
        ("my programming", "violate", "limitations", "my abilities"),
        re.compile(r"against my programming|\bviolates? my\b|my limitations|limitations of my|my abilities"),
    ),
    (
        ("illegal", "unethical", "dangerous", "harmful"),
        re.compile(
            r"illegal and dangerous"
            r"|\b(?:unethical|illegal|dangerous|harmful) (?:content|activit|acts?\b|behavio|purpose)"
        ),
    ),
    (("text-based", "note"), re.compile(r"text-based|important to note|please note that")),
    (
        ("personal", "consciousness", "subjective"),
        re.compile(
            r"\bi do(?:n't| not) (?:possess|have|exhibit) (?:personal|consciousness|subjective)"
            r"|personal (?:feelings|thoughts|emotions|desires|experiences|goals|objective|belief)"
        ),
    ),
    (
        ("can't", "cannot", "can not", "won't", "will not", "unable"),
        re.compile(
            r"\b(?:can't|cannot|can not|won't|will not|unable to)(?: \w+){1,12}? "
            r"(?:with (?:that|your)\b|your \w|provide)"
            rf"|(?:{CANNOT}|\bi am not able).{{0,30}}?\b(?:you are|you're|your )"
        ),
    ),
)


def refusal_in(text: str, phrases: Literal["strict", "bagel"] = "strict") -> str | None:
    """Return the piece of an answer that refuses, or None."""
    flat = " ".join(text.split()).replace("’", "'")
    lower = flat.lower()
    found = OPENING.match(lower) if phrases == "strict" else None
    for pieces, pattern in STRICT if phrases == "strict" else BAGEL:
        if found is None and any(piece in lower for piece in pieces):
            found = pattern.search(lower)
    if found is None:
        return None
    return (flat if len(flat) == len(lower) else lower)[found.start() : found.end()]
