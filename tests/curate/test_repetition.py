"""Repetition: the values of MassiveText, each at its edge. Words are of four letters, so that shares can be counted."""

import gzip
import json
from pathlib import Path

import pytest

from poise.curate.reason import Reason
from poise.curate.repetition import repetition_in
from poise.sources.transcripts import parse_transcript

both = pytest.mark.parametrize("answer", [True, False], ids=["answer", "document"])


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
    found = repetition_in("\n".join(lines(repeats)), answer=False)
    assert (found and found.phrase) == phrase


@both
@pytest.mark.parametrize(("times", "phrase"), [(4, None), (5, "repeated lines")])
def test_repeated_lines_may_be_three_tenths_of_all(times: int, phrase: str | None, answer: bool) -> None:
    """Of 10 lines 3 were there before, of 11 lines 4."""
    long = [" ".join(words(9 * index, 9)) for index in range(6)]
    found = repetition_in("\n".join([*long, *["ok"] * times]), answer=answer)
    assert (found and (found.phrase, found.evidence)) == (phrase and (phrase, f"{times} x ok"))


@both
def test_sentences_of_one_line_count_as_lines_do(answer: bool) -> None:
    found = repetition_in(" ".join(lines(3, end=".")), answer=answer)
    assert found is not None
    assert (found.phrase, found.evidence) == ("repeated sentences", "4 x w000 w001 w002 w003 w004")


def test_an_abbreviation_is_no_sentence_that_repeats() -> None:
    """`ft` is 12 of 25 parts, but of few characters."""
    once = words(0, 50)
    measures = " ".join(f"{' '.join(once[4 * index : 4 * index + 4])} sq. ft." for index in range(12))
    assert repetition_in(" ".join([measures, *once[48:]]), answer=True) is None


@pytest.mark.parametrize(("times", "evidence"), [(5, None), (6, "6 x very good")])
def test_the_commonest_bigram_may_hold_a_fifth_of_the_characters(times: int, evidence: str | None) -> None:
    """Fifty words of four letters; each time it holds 8 of 200."""
    once = words(0, 50 - 2 * times)
    text = " ".join(part for index in range(times) for part in ("very good", once[index]))
    found = repetition_in(" ".join([text, *once[times:]]), answer=False)
    assert (found and found.evidence) == evidence


@pytest.mark.parametrize(("length", "gram"), [(6, 0), (7, 7), (8, 5)])
def test_a_passage_that_comes_again_is_told_by_its_n_grams(length: int, gram: int) -> None:
    """Of 50 words 8 are 16 %, over the 15 of 5-grams; 7 are 14 %, over the 13 of 7-grams; 6 are never too many."""
    once = words(0, 50 - length)
    found = repetition_in(" ".join([*once, *once[:length]]), answer=False)
    assert (found and found.evidence) == (f"2 x {' '.join(once[:gram])}" if gram else None)


# Answers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "evidence"), [(33, None), (34, "2 x w000 w001 w002 w003 w004")])
def test_repeated_words_may_hold_half_of_an_answer(length: int, evidence: str | None) -> None:
    """Of 67 words the last 33 are less than half, of 68 the last 34 are half; the first word after them is not."""
    once = words(0, 34)
    found = repetition_in(" ".join([*once, *once[:length], *([] if length == 33 else ["w000"])]), answer=True)
    assert (found and found.evidence) == evidence


@pytest.mark.parametrize(("times", "phrase"), [(2, None), (3, "loop")])
def test_a_passage_three_times_in_succession_is_a_loop(times: int, phrase: str | None) -> None:
    """Eight words of 50 + 8: twice they are 14 % that were there before, three times 24 %."""
    found = repetition_in(" ".join([*words(100, 42), *words(0, 8) * times]), answer=True)
    assert found == (phrase and Reason(phrase, f"3 x {' '.join(words(0, 8))}"))


@pytest.mark.parametrize(("times", "phrase"), [(13, None), (14, "loop")])
def test_a_loop_may_hold_a_fifth_of_the_words(times: int, phrase: str | None) -> None:
    """A word 13 times is 12 that were there before, of 48 + 13 = 61; 13 of 62 are over a fifth."""
    found = repetition_in(" ".join([*words(0, 48), *["very"] * times]), answer=True)
    assert (found and found.phrase) == phrase


@pytest.mark.parametrize("length", range(1, 25))
def test_a_sound_answer_that_ends_in_a_loop_is_found_whatever_the_length_of_the_passage(length: int) -> None:
    """Also where the last turn of the loop is cut off, as by a limit of tokens."""
    passage = words(100, length)
    looped = [*words(0, 60), *passage * max(4, 60 // length)]
    assert repetition_in(" ".join(looped), answer=True) is not None
    assert repetition_in(" ".join(looped[:-1]), answer=True) is not None
    assert repetition_in(" ".join([*words(0, 60), *passage]), answer=True) is None


@pytest.mark.parametrize(
    "unit", ["Step {}: buy the thing now", "{}. I am a good and kind bot.", "On day {} we go to the sea,"]
)
def test_a_loop_that_counts_is_found(unit: str) -> None:
    assert repetition_in("\n".join(map(unit.format, range(1, 21))), answer=True) is not None


# Both -----------------------------------------------------------------------------------------------------------------


@both
def test_less_than_fifty_words_are_not_judged(answer: bool) -> None:
    assert repetition_in("very good " * 24 + "end", answer=answer) is None
    assert repetition_in("very good " * 25, answer=answer) is not None


@both
def test_fenced_code_and_lines_of_layout_may_repeat(answer: bool) -> None:
    own = "\n".join(lines(0))
    assert repetition_in(own + "\n```\n" + "x = 1\n" * 50 + "```", answer=answer) is None
    assert repetition_in(own + "\n}" * 20, answer=answer) is None
    assert repetition_in(own + "\n" + "x = 1\n" * 50, answer=answer) is not None


# Real answers ---------------------------------------------------------------------------------------------------------


def test_no_worked_answer_of_gsm8k_repeats_itself_and_each_that_goes_on_in_a_loop_does() -> None:
    """Of the 7,473 answers, all of them written by people, the limits for documents refuse 548."""
    answers = [json.loads(line)["answer"] for line in _data("gsm8k/train.jsonl").read_text().splitlines()]
    assert len(answers) == 7473
    assert [answer for answer in answers if repetition_in(answer, answer=True)] == []
    assert sum(repetition_in(answer, answer=False) is not None for answer in answers) == 548
    for answer in answers[:500]:
        for tail in (answer.split()[-1:], answer.split()[-7:], answer.split()[-20:]):
            looped = f"{answer} {' '.join(tail * (120 // len(tail)))}"
            assert repetition_in(looped, answer=True) is not None


def test_no_preferred_answer_of_hh_rlhf_repeats_itself() -> None:
    """The limits for documents refuse 12 of the 1,200 dialogues: lists and arguments that keep to their words."""
    with gzip.open(_data("hh-rlhf/harmless-base-sample.jsonl.gz"), "rt") as lines:
        chats = [parse_transcript(json.loads(line)["chosen"], "chosen") for line in lines]
    answers = [message.content for chat in chats for message in chat if message.role == "assistant"]
    assert [answer for answer in answers if repetition_in(answer, answer=True)] == []


def _data(name: str) -> Path:
    path = Path(__file__).resolve().parents[2].parent / "shared" / "data" / name
    if not path.is_file():
        pytest.skip(f"the published file is not at {path}")
    return path
