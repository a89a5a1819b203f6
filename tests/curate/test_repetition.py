"""Repetition: the values of MassiveText, each at its edge. Words are of four letters, so that shares can be counted."""

import pytest

from poise.curate.repetition import repetition_in


def words(first: int, count: int) -> list[str]:
    """Words that stand once."""
    return [f"w{index:03d}" for index in range(first, first + count)]


def lines(repeats: int, end: str = "") -> list[str]:
    """Ten lines of five words, of which the last `repeats` are the first one again."""
    return [" ".join(words(5 * (index if index < 10 - repeats else 0), 5)) + end for index in range(10)]


@pytest.mark.parametrize(
    ("repeats", "phrase"),
    [
        (1, None),  # a tenth of the characters, in lines as in 5-grams
        (2, "repeated words"),  # a fifth is over 15 % in 5-grams, but not over the lines' 20 %
        (3, "repeated lines"),
    ],
)
def test_repeated_lines_may_hold_a_fifth_of_the_characters(repeats: int, phrase: str | None) -> None:
    found = repetition_in("\n".join(lines(repeats)))
    assert (found and found.phrase) == phrase


@pytest.mark.parametrize(("times", "phrase"), [(4, None), (5, "repeated lines")])
def test_repeated_lines_may_be_three_tenths_of_all(times: int, phrase: str | None) -> None:
    """Of 10 lines 3 were there before, of 11 lines 4."""
    long = [" ".join(words(9 * index, 9)) for index in range(6)]
    found = repetition_in("\n".join([*long, *["ok"] * times]))
    assert (found and (found.phrase, found.evidence)) == (phrase and (phrase, f"{times} x ok"))


def test_sentences_of_one_line_count_as_lines_do() -> None:
    found = repetition_in(" ".join(lines(3, end=".")))
    assert found is not None
    assert (found.phrase, found.evidence) == ("repeated sentences", "4 x w000 w001 w002 w003 w004")


@pytest.mark.parametrize(("times", "evidence"), [(5, None), (6, "6 x very good")])
def test_the_commonest_bigram_may_hold_a_fifth_of_the_characters(times: int, evidence: str | None) -> None:
    """Fifty words of four letters; each time it holds 8 of 200."""
    once = words(0, 50 - 2 * times)
    text = " ".join(part for index in range(times) for part in ("very good", once[index]))
    found = repetition_in(" ".join([text, *once[times:]]))
    assert (found and found.evidence) == evidence


@pytest.mark.parametrize(("length", "gram"), [(6, 0), (7, 7), (8, 5)])
def test_a_passage_that_comes_again_is_told_by_its_n_grams(length: int, gram: int) -> None:
    """Of 50 words 8 are 16 %, over the 15 of 5-grams; 7 are 14 %, over the 13 of 7-grams; 6 are never too many."""
    once = words(0, 50 - length)
    found = repetition_in(" ".join([*once, *once[:length]]))
    assert (found and found.evidence) == (f"2 x {' '.join(once[:gram])}" if gram else None)


def test_less_than_fifty_words_are_not_judged() -> None:
    assert repetition_in("very good " * 24 + "end") is None
    assert repetition_in("very good " * 25) is not None


def test_fenced_code_and_lines_of_layout_may_repeat() -> None:
    own = "\n".join(lines(0))
    assert repetition_in(own + "\n```\n" + "x = 1\n" * 50 + "```") is None
    assert repetition_in(own + "\n}" * 20) is None
    assert repetition_in(own + "\n" + "x = 1\n" * 50) is not None
