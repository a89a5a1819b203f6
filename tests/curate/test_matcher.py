"""Decontamination finds every form of an item in every place of a row, and leaves its innocent neighbours."""

import pickle
import random
from typing import Any

import pytest

from poise.curate.benchmarks import Item
from poise.curate.matcher import Match, Matcher, words_of
from poise.examples import (
    Conversation,
    Document,
    Example,
    LabeledConversation,
    Message,
    PreferencePair,
    RankedAnswers,
)

# 30 words, so 18 13-grams
ROLLS = (
    "A baker fills 24 trays with rolls every morning, sells 310 of them before noon, and gives the rest to a shelter. "
    "How many rolls reach the shelter each week?"
)
ITEM = Item("bakery", "7", (ROLLS,))
TEN_WORDS = "Which metal stays liquid at the temperature of a room?"
FIVE_WORDS = "Why is the sky blue?"


def ask(question: str, answer: str = "Let me see.") -> Conversation:
    return Conversation((Message("user", question), Message("assistant", answer)))


def leaks(example: Example, *items: Item, **options: Any) -> bool:
    return Matcher(items or [ITEM], **options).judge(example) is not None


def first_words(count: int) -> str:
    return " ".join(ROLLS.split()[:count])


USER, REPLY = Message("user", ROLLS), Message("assistant", ROLLS)
HELLO, OTHER = Message("user", "Hello there"), Message("assistant", "Good day to you")


@pytest.mark.parametrize(
    "example",
    [
        Document(f"Chapter one. {ROLLS} Chapter two."),
        Conversation((USER, OTHER)),
        Conversation((HELLO, OTHER, USER, OTHER)),
        Conversation((HELLO, OTHER, Message("user", "More"), OTHER, USER)),
        Conversation((HELLO, REPLY)),
        LabeledConversation((USER, OTHER), desirable=True),
        LabeledConversation((USER, OTHER), desirable=False),
        PreferencePair((USER,), (OTHER,), (OTHER,)),
        PreferencePair((HELLO, OTHER, USER), (OTHER,), (OTHER,)),
        PreferencePair((HELLO,), (REPLY,), (OTHER,)),
        PreferencePair((HELLO,), (OTHER, USER, OTHER), (OTHER,)),
        RankedAnswers((USER,), ((OTHER,), (OTHER,)), (0, 1)),
        RankedAnswers((HELLO,), ((OTHER,), (REPLY,), (OTHER,)), (1, 0, 0)),
        RankedAnswers((HELLO,), ((OTHER,), (OTHER,), (REPLY,)), (1, 0, 0)),
    ],
)
def test_an_item_is_found_in_every_turn_that_is_given_or_wanted(example: Example) -> None:
    assert leaks(example)


@pytest.mark.parametrize(
    "example",
    [
        PreferencePair((HELLO,), (OTHER,), (REPLY,)),
        RankedAnswers((HELLO,), ((REPLY,), (OTHER,)), (1, 0)),
        Conversation((HELLO, OTHER)),
        Document(""),
    ],
)
def test_an_answer_that_is_rejected_gives_nothing_away(example: Example) -> None:
    assert not leaks(example)


@pytest.mark.parametrize(
    "told",
    [
        ROLLS.upper(),
        ROLLS.replace(" ", "\n\t "),
        ROLLS.replace(",", "").replace(".", " - ").replace("?", ""),
        f"Question: «{ROLLS}»\nAnswer:",
    ],
)
def test_case_spacing_and_punctuation_hide_nothing(told: str) -> None:
    assert leaks(ask(told))


def test_composed_and_decomposed_letters_are_one() -> None:
    item = Item("menu", "1", ("Où se trouve le café préféré de la mère d'Hélène à côté du théâtre?",))
    assert leaks(ask("OÙ SE TROUVE LE CAFE\u0301 PRÉFÉRÉ DE LA ME\u0300RE D’HÉLÈNE À CÔTÉ DU THÉÂTRE"), item)


def test_words_are_the_same_on_the_fast_path_for_ascii() -> None:
    text = "It's 3-4 x_1 = f(2.5)\t[OK]\x00end"
    assert words_of(text) == ["it", "s", "3", "4", "x", "1", "f", "2", "5", "ok", "end"]
    assert words_of(f"{text} é") == [*words_of(text), "é"]


def test_where_words_have_no_spaces_each_character_is_one() -> None:
    item = Item("own", "1", ("请问这家面包店每天早上一共要做多少个面包?",))
    assert leaks(ask("你好!请问这家面包店每天早上一共要做多少个面包? 谢谢"), item)
    assert not leaks(ask("请问这家面包店"), item)
    assert words_of("abc漢字2") == ["abc", "漢", "字", "2"]


# --- how much of an item must be found ---


@pytest.mark.parametrize(("count", "found"), [(20, False), (21, True), (22, True)])
def test_a_part_is_a_leak_from_half_of_the_ngrams_on(count: int, found: bool) -> None:
    # the first 21 words hold 9 of the 18 13-grams
    assert leaks(ask(first_words(count))) is found


def test_the_share_and_the_ngram_can_be_set() -> None:
    assert not leaks(ask(first_words(29)), share=1.0)
    assert leaks(ask(first_words(13)), share=1 / 18)
    # the first 12 words hold 5 of the 23 8-grams
    assert leaks(ask(first_words(12)), ngram=8, share=5 / 23)
    assert not leaks(ask(first_words(12)), ngram=8, share=6 / 23)


def test_an_item_shorter_than_an_ngram_is_found_whole_anywhere_in_a_turn() -> None:
    item = Item("metals", "1", (TEN_WORDS,))
    assert leaks(ask(f"Please tell me: {TEN_WORDS.lower()} I forgot."), item)
    assert not leaks(ask("Which metal stays liquid at the temperature of a fridge?"), item)
    assert not leaks(ask("Which metal stays liquid at the temperature of a"), item)


def test_a_very_short_item_is_found_as_a_whole_turn_only() -> None:
    item = Item("sky", "1", (FIVE_WORDS,))
    assert leaks(ask("  why is the SKY blue"), item)
    assert leaks(Conversation((HELLO, OTHER, Message("user", FIVE_WORDS), OTHER)), item)
    assert not leaks(ask(f"My son asks: {FIVE_WORDS}"), item)


@pytest.mark.parametrize("text", ["yes", "What is it?", "", "?!"])
def test_what_is_shorter_still_never_matches_and_is_told_as_too_short(text: str) -> None:
    matcher = Matcher([Item("tiny", "1", (text,))])
    assert matcher.judge(ask(text, text)) is None
    assert matcher.judge(Document(text)) is None
    assert matcher.states == {"tiny": {"1": "too short"}}


def test_how_each_item_is_looked_for_is_known() -> None:
    items = [Item("set", str(number), (text,)) for number, text in enumerate((ROLLS, TEN_WORDS, FIVE_WORDS, "Why?"))]
    states = {"0": "n-gram share", "1": "whole item", "2": "whole turn", "3": "too short"}
    assert Matcher(items).states == {"set": states}


# --- forms of a question ---

CHOICES = Item(
    "exam",
    "1",
    (
        "What is acid rain?",
        "What is acid rain?\nA. Rain with a low pH\nB. Rain with salt\nC. Rain that is warm",
        "What is acid rain?\nRain with a low pH\nRain with salt\nRain that is warm",
        "What is acid rain?\nRain with a low pH",
    ),
)


@pytest.mark.parametrize(
    "example",
    [
        ask("What is acid rain?"),
        ask("What is acid rain?\n(a) Rain with a low pH\n(b) Rain with salt\n(c) Rain that is warm\nAnswer:", "a"),
        ask("Choose. What is acid rain? Rain with a low pH; rain with salt; rain that is warm."),
        ask("Tell me. What is acid rain?", "Rain with a low pH, of course."),
    ],
)
def test_a_short_question_is_found_alone_with_its_choices_and_with_its_answer(example: Example) -> None:
    assert leaks(example, CHOICES)


@pytest.mark.parametrize(
    "example",
    [
        ask("Tell me. What is acid rain?", "Rain with salt."),
        ask("Sort these:\nA. Rain with a low pH\nB. Rain with salt\nC. Rain that is warm"),
    ],
)
def test_a_short_question_under_another_answer_or_choices_without_it_stay(example: Example) -> None:
    assert not leaks(example, CHOICES)


def test_a_long_question_is_found_without_the_choices_it_has_in_the_benchmark() -> None:
    item = Item("exam", "2", (ROLLS, f"{ROLLS}\nA. 980\nB. 1,190", f"{ROLLS}\n980"))
    assert leaks(ask(ROLLS), item)
    assert leaks(ask(f"{ROLLS}\n1) 980\n2) 1,190"), item)


def test_a_question_that_several_items_share_is_found_with_their_choices_only() -> None:
    shared = "Which one of the following statements about it is true?"
    items = [
        Item("exam", name, (shared, f"{shared}\nA. {one}\nB. {two}"))
        for name, one, two in (("1", "It floats", "It sinks"), ("2", "It is red", "It is blue"))
    ]
    matcher = Matcher(items)
    assert matcher.judge(ask(f"{shared} A. It sings B. It dances")) is None
    assert [match.item for match in matcher.matches(ask(f"{shared} (A) It is red (B) It is blue"))] == ["2"]


PASSAGE = (
    "The Raiders kicked two field goals in the second quarter, and the Texans answered with a long touchdown pass."
)
MATCH = Item("drop", "q1", ("How many field goals were kicked?",), PASSAGE)


@pytest.mark.parametrize(
    "asked",
    [
        f"Passage: {PASSAGE}\nQuestion: how many field goals were kicked?",
        f"How many field goals were kicked?\n\n{PASSAGE}",
    ],
)
def test_a_question_about_a_passage_is_found_with_it_in_either_order(asked: str) -> None:
    assert leaks(ask(asked), MATCH)


@pytest.mark.parametrize(
    "asked",
    [
        f"{PASSAGE}\nWho threw the pass?",
        "The Bears missed every kick of the rainy game. How many field goals were kicked?",
        "How many field goals were kicked?",
    ],
)
def test_a_passage_under_another_question_stays_and_a_question_under_another_passage(asked: str) -> None:
    assert not leaks(ask(asked), MATCH)


def test_a_passage_may_be_the_system_prompt_of_its_question() -> None:
    messages = (Message("system", PASSAGE), Message("user", MATCH.texts[0]), Message("assistant", "Two"))
    assert leaks(Conversation(messages), MATCH)


# --- innocent neighbours ---


@pytest.mark.parametrize("other", [("24", "36"), ("310", "290"), ("24", "1"), ("11pm", "12pm")])
def test_the_same_template_with_another_number_stays(other: tuple[str, str]) -> None:
    item = Item("bakery", "7", (ROLLS.replace("noon", "11pm"),))
    assert not leaks(ask(ROLLS.replace("noon", "11pm").replace(*other)), item)


def test_a_copy_with_another_word_is_found() -> None:
    # the 23rd word is in 8 of the 18 13-grams
    assert leaks(ask(ROLLS.replace("How many", "So many")))


@pytest.mark.parametrize(("written", "otherwise"), [("1,310", "1310"), ("310", "310.00"), ("310", "three hundred")])
def test_a_number_written_otherwise_is_no_other_number(written: str, otherwise: str) -> None:
    item = Item("bakery", "8", (ROLLS.replace("310", written),))
    assert leaks(ask(ROLLS.replace("310", otherwise)), item, share=0.3)


def test_an_item_beside_its_neighbour_is_found() -> None:
    assert leaks(ask(f"{ROLLS.replace('310', '290')} {ROLLS}"))


BOILERPLATE = "You will be given a definition of a task first and then some input of the task, so read both with care."
TASK = f"{BOILERPLATE} Name the river."


def test_boilerplate_that_many_rows_share_is_no_leak_of_an_item_that_is_mostly_its_own_words() -> None:
    assert not leaks(ask(f"{BOILERPLATE} Count the vowels."), Item("tasks", "1", (f"{BOILERPLATE} {ROLLS}",)))


def test_boilerplate_on_the_allow_list_is_not_counted() -> None:
    row, item = ask(f"{BOILERPLATE} Count the vowels."), Item("tasks", "1", (TASK,))
    assert leaks(row, item)
    assert not leaks(row, item, allow=[BOILERPLATE.upper()])
    assert leaks(ask(TASK), item, allow=[BOILERPLATE])


@pytest.mark.parametrize("text", [ROLLS, TEN_WORDS, FIVE_WORDS])
def test_an_item_on_the_allow_list_is_never_matched_and_told_so(text: str) -> None:
    matcher = Matcher([Item("set", "1", (text,))], allow=[f"{text}!"])
    assert matcher.judge(ask(text)) is None
    assert matcher.states == {"set": {"1": "allowed"}}


def test_a_question_on_the_allow_list_is_allowed_about_every_passage() -> None:
    matcher = Matcher([MATCH], allow=MATCH.texts)
    assert matcher.judge(ask(f"{PASSAGE} {MATCH.texts[0]}")) is None
    assert matcher.states == {"drop": {"q1": "allowed"}}


# --- against the obvious way ---


def test_the_index_finds_the_shares_that_a_plain_comparison_finds() -> None:
    chance = random.Random(7)
    texts = {" ".join(chance.choices("abc", k=chance.randint(13, 60))) for _ in range(40)}
    items = [Item("set", text, (text,)) for text in sorted(texts)]
    matcher = Matcher(items, share=0.01)

    def grams(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[at : at + 13]) for at in range(len(words) - 12)}

    compared = 0
    for _ in range(60):
        pieces = [chance.choice(items).texts[0].split() for _ in range(4)]
        words = [word for piece in pieces for word in piece[chance.randrange(30) :][: chance.randrange(10, 25)]]
        found = {match.item: match.share for match in matcher.matches(Document(" ".join(words)))}
        shares = {text: len(grams(text.split()) & grams(words)) / len(grams(text.split())) for text in texts}
        assert found == pytest.approx({text: share for text, share in shares.items() if share >= 0.01})
        compared += len(found)
    assert compared > 60


# --- what is told ---


def test_the_reason_names_benchmark_item_method_share_and_text() -> None:
    reason = Matcher([ITEM]).judge(ask(first_words(22)))
    assert reason is not None
    assert reason.phrase == "leaks bakery"
    assert reason.evidence == f"7, n-gram share 0.56: {ROLLS[:100]}"
    whole = Matcher([Item("metals", "3", (TEN_WORDS,))]).judge(ask(TEN_WORDS))
    assert whole is not None
    assert whole.evidence == f"3, whole item 1.00: {TEN_WORDS}"


def test_a_match_shows_the_words_of_the_row() -> None:
    (match,) = Matcher([ITEM]).matches(ask(f"Well then! {first_words(22)} and so on", "Yes"))
    assert match.seen.startswith("a baker fills 24 trays")
    assert match == Match("bakery", "7", "n-gram share", 10 / 18, ROLLS, match.seen)


def test_a_row_that_leaks_two_items_names_both_the_clearest_first() -> None:
    items = [
        ITEM,
        Item("metals", "1", (TEN_WORDS,)),
        Item("metals", "2", ("Which metal melts first of all those here?",)),
    ]
    found = Matcher(items).matches(ask(f"{first_words(22)} {TEN_WORDS}"))
    assert [(match.benchmark, match.item) for match in found] == [("metals", "1"), ("bakery", "7")]


def test_copies_of_an_item_are_all_named() -> None:
    items = [ITEM, Item("bakery", "8", (ROLLS.upper(),)), Item("other", "1", (ROLLS,))]
    found = Matcher(items).matches(ask(ROLLS))
    assert {(match.benchmark, match.item) for match in found} == {("bakery", "7"), ("bakery", "8"), ("other", "1")}


def test_a_matcher_that_went_to_another_process_judges_the_same() -> None:
    matcher = Matcher([ITEM, CHOICES, MATCH])
    sent = pickle.loads(pickle.dumps(matcher))
    for row in (ask(ROLLS), ask(first_words(21)), ask(f"{PASSAGE} {MATCH.texts[0]}"), ask("Hello")):
        assert sent.matches(row) == matcher.matches(row)
