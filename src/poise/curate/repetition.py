"""Text that repeats itself, by the rules and values of MassiveText (Gopher, arXiv:2112.11446, table A1).

                          in documents                          in answers
    repeated lines        over 30 % of the lines, or 20 % of their characters, were there before
    repeated sentences    over 20 % of their characters, for text without line breaks; ours
    loop                  -                                     a passage three times or more in direct succession:
                                                                over 20 % of the words were there before; ours
    repeated words        the commonest 2-, 3- or 4-gram        repeated 5-grams hold over half of the characters;
                          holds over 20, 18 or 16 % of the      ours
                          characters, or repeated 5- to
                          10-grams hold over 15 to 10 %

MassiveText's limits for words are made for pages of the web. Worked answers repeat their terms by necessity: of the
4,073 answers of GSM8K that have 50 words and more, all of them written by people, the limits refuse 635, the longer
the more of them, and of GPT-4's reference answers to MT-Bench every fifth. In none of these do repeated 5-grams hold
over 43 % of the characters.

MassiveText holds texts of 50 words and more, so nothing shorter is judged here: in four words every bigram is much.
Fenced code, and lines without a letter or digit, are left out: braces and rules repeat in sound answers. Words are what
white space separates, so languages that write without it are judged by lines and sentences at most.
"""

import re
from collections import Counter

from poise.curate.reason import Reason

LEAST_WORDS = 50
LINE_SHARE, LINE_CHARACTERS = 0.30, 0.20
COMMONEST = ((2, 0.20), (3, 0.18), (4, 0.16))
REPEATED = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
REPEATED_IN_ANSWERS = (5, 0.50)
LOOP_SHARE = 0.20
LOOP_TIMES = 3
LOOP_GRAM = 4
"""A loop is looked for where so many words come again."""
FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
SENTENCE_END = re.compile(r"[.!?。！？]+(?:\s+|$)")

Gram = tuple[str, ...]


def repetition_in(text: str, *, answer: bool) -> Reason | None:
    """Return what is repeated too often in an answer or a document, or None."""
    text = FENCED.sub("", text) if "```" in text else text
    lines = [line.strip() for line in text.splitlines() if any(map(str.isalnum, line))]
    said = "\n".join(lines)
    words = said.split()
    if len(words) < LEAST_WORDS:
        return None
    return (
        _parts(lines, "repeated lines", LINE_SHARE)
        or _parts([each for each in SENTENCE_END.split(said) if each], "repeated sentences")
        or (_loop(words) or _words_of_answer(words) if answer else _words(words))
    )


def _parts(parts: list[str], phrase: str, share: float = 1.0) -> Reason | None:
    """Judge lines or sentences: a part counts as repeated from its second time on.

    Of sentences no `share` is judged, because abbreviations end like sentences: `sq. ft.` comes twelve times in a row.
    """
    if len(set(parts)) == len(parts):
        return None
    counts = Counter(parts)
    repeated = len(parts) - len(counts)
    characters = sum((count - 1) * len(part) for part, count in counts.items())
    if repeated <= share * len(parts) and characters <= LINE_CHARACTERS * sum(map(len, parts)):
        return None
    part, count = max(counts.items(), key=lambda item: (item[1], len(item[0])))
    return _reason(phrase, count, part)


def _loop(words: list[str]) -> Reason | None:
    """Judge what stands three times in direct succession; each time some words of it come again at its length."""
    last: dict[Gram, int] = {}
    seen = (0, 0)  # the length and the end of the last succession: within it, each word would be counted from anew
    for index, gram in enumerate(_grams(words, LOOP_GRAM)):
        start, last[gram] = last.get(gram, index), index
        length = index - start
        if not length or (length == seen[0] and index < seen[1]):
            continue
        times = _times(words, start, length)
        seen = (length, start + times * length)
        if times >= LOOP_TIMES and (times - 1) * length > LOOP_SHARE * len(words):
            return _reason("loop", times, " ".join(words[start:index]))
    return None


def _times(words: list[str], start: int, length: int) -> int:
    """Count how often a passage stands in direct succession."""
    passage, times = words[start : start + length], 1
    while words[start + times * length : start + (times + 1) * length] == passage:
        times += 1
    return times


def _words_of_answer(words: list[str]) -> Reason | None:
    size, share = REPEATED_IN_ANSWERS
    gram, count, covered = _covered(words, size)
    return _reason("repeated words", count, " ".join(gram)) if covered > share * sum(map(len, words)) else None


def _words(words: list[str]) -> Reason | None:
    """Judge n-grams, the shorter first; where none comes again, no longer one does."""
    lengths = sorted(map(len, words), reverse=True)
    characters, most = sum(lengths), len(words)
    for size, share in COMMONEST:
        if most * sum(lengths[:size]) <= share * characters:
            continue  # no gram comes more often than its parts, nor is longer than the longest words
        gram, most = Counter(_grams(words, size)).most_common(1)[0]
        if most == 1:
            return None
        if most * sum(map(len, gram)) > share * characters:
            return _reason("repeated words", most, " ".join(gram))
    for size, share in REPEATED:
        gram, count, covered = _covered(words, size)
        if covered > share * characters:
            return _reason("repeated words", count, " ".join(gram))
        if covered <= REPEATED[-1][1] * characters:
            return None  # what longer grams cover, these cover too
    return None


def _covered(words: list[str], size: int) -> tuple[Gram, int, int]:
    """Return the first gram that comes again, how often it stands there, and the characters of all words in such grams.

    A gram counts from its second time on, and a word once.
    """
    grams = list(_grams(words, size))
    if len(set(grams)) == len(grams):
        return (), 0, 0
    seen: set[Gram] = set()
    again = [index for index, gram in enumerate(grams) if gram in seen or seen.add(gram)]
    marked = {word for index in again for word in range(index, index + size)}
    first = grams[again[0]]
    return first, grams.count(first), sum(len(words[index]) for index in marked)


def _grams(words: list[str], size: int) -> "zip[Gram]":
    return zip(*(words[start:] for start in range(size)), strict=False)


def _reason(phrase: str, count: int, piece: str) -> Reason:
    return Reason(phrase, f"{count} x {piece[:150]}")
