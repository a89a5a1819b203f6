"""The step quality: which of a row's texts each rule looks at."""

import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from poise.curate.reason import Reason
from poise.curate.steps.quality import Quality
from poise.examples import (
    Conversation,
    Document,
    LabeledConversation,
    Message,
    PreferencePair,
    RankedAnswers,
)

ROLES: dict[str, Any] = {"s": "system", "u": "user", "a": "assistant"}
REFUSED = "As an AI language model, I cannot say."


def turns(*texts: str) -> tuple[Message, ...]:
    """Read `u:hi` as a user's turn that says hi."""
    return tuple(Message(ROLES[text[0]], text[2:]) for text in texts)


def phrase(example: Any, **keys: Any) -> str | None:
    reason = Quality(**keys).judge(example)
    return reason and reason.phrase


# bagel's defects ------------------------------------------------------------------------------------------------------


def test_case_is_a_flag_and_not_a_start_position() -> None:
    """`compiled.search(text, re.I)` would start at 2 and see lower case only."""
    for said in (REFUSED, REFUSED.upper()):
        assert phrase(Conversation(turns("u:hi", f"a:{said}"))) == "refusal"


@pytest.mark.parametrize("refusals", ["strict", "bagel"])
def test_the_first_two_characters_are_searched(refusals: str) -> None:
    for said in ("OpenAI trained me", "openai trained me"):
        assert phrase(Conversation(turns("u:hi", f"a:{said}")), refusals=refusals) == "refusal"


@pytest.mark.parametrize("refusals", ["strict", "bagel"])
def test_what_the_user_or_the_system_says_is_no_refusal(refusals: str) -> None:
    asked = turns(f"s:{REFUSED}", f"u:{REFUSED}")
    assert phrase(Conversation((*asked, *turns("a:Fine."))), refusals=refusals) is None
    assert phrase(PreferencePair(asked, turns("a:Fine."), turns("a:No.")), refusals=refusals) is None


# Which answers are judged ---------------------------------------------------------------------------------------------


def test_every_answer_of_a_conversation_is_judged() -> None:
    assert phrase(Conversation(turns("u:hi", f"a:{REFUSED}", "u:please", "a:Fine."))) == "refusal"


def test_a_pair_is_judged_by_its_chosen_answer() -> None:
    assert phrase(PreferencePair(turns("u:hi"), turns(f"a:{REFUSED}"), turns("a:Fine."))) == "refusal"
    assert phrase(PreferencePair(turns("u:hi"), turns("a:Fine."), turns(f"a:{REFUSED}"))) is None


def test_ranked_answers_are_judged_by_the_best() -> None:
    answers = (turns("a:Fine."), turns(f"a:{REFUSED}"))
    assert phrase(RankedAnswers(turns("u:hi"), answers, (0, 1))) is None
    assert phrase(RankedAnswers(turns("u:hi"), answers, (1, 0))) == "refusal"


def test_an_undesirable_answer_may_refuse_but_not_be_empty() -> None:
    assert phrase(LabeledConversation(turns("u:hi", f"a:{REFUSED}"), desirable=False)) is None
    assert phrase(LabeledConversation(turns("u:hi", f"a:{REFUSED}"), desirable=True)) == "refusal"
    assert phrase(LabeledConversation(turns("u:hi", "a: "), desirable=False)) == "empty answer"


def test_a_document_refuses_nothing_and_has_no_answer_to_measure() -> None:
    assert phrase(Document(REFUSED), min_words=20) is None
    assert phrase(Document(f"{REFUSED} \ufffd")) == "replacement character"
    assert phrase(Document(" \n")) == "empty answer"


# The rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("refusals", "expected"), [("off", None), ("strict", None), ("bagel", "refusal")])
def test_a_note_is_a_refusal_to_bagel_alone(refusals: str, expected: str | None) -> None:
    assert phrase(Conversation(turns("u:hi", "a:Sure. Please note that it is hot.")), refusals=refusals) == expected


def test_refusals_can_be_left_in() -> None:
    assert phrase(Conversation(turns("u:hi", f"a:{REFUSED}")), refusals="off") is None


def test_the_evidence_is_the_piece_as_it_was_written() -> None:
    reason = Quality().judge(Conversation(turns("u:hi", "a:Sadly, as an AI language model, no.")))
    assert reason == Reason("refusal", "as an AI language model")


@pytest.mark.parametrize("answer", ["", " \n", "...", "?!", "—", "\u200b"])
def test_an_answer_of_space_and_punctuation_is_empty(answer: str) -> None:
    assert phrase(Conversation(turns("u:hi", f"a:{answer}"))) == "empty answer"
    assert phrase(Conversation(turns("u:hi", f"a:{answer}")), empty=False) is None


@pytest.mark.parametrize("answer", ["A", "4", "+", "👍", "日"])
def test_one_sign_says_something(answer: str) -> None:
    assert phrase(Conversation(turns("u:hi", f"a:{answer}"))) is None


def test_the_last_answer_must_say_something_and_be_there() -> None:
    assert phrase(Conversation(turns("u:hi", "a:Yes.", "u:why", "a:"))) == "empty answer"
    assert phrase(Conversation(turns("u:hi", "a:", "u:why", "a:Yes."))) is None
    assert phrase(Conversation(turns("u:hi"))) == "empty answer"
    assert phrase(PreferencePair(turns("u:hi"), (), turns("a:no"))) == "empty answer"


def test_repetition_and_damage_are_judged_unless_switched_off() -> None:
    loop, broken = Conversation(turns("u:hi", "a:" + "so it is " * 20)), Conversation(turns("u:hi", "a:cafÃ©"))
    assert (phrase(loop), phrase(loop, repeated=False)) == ("loop", None)
    assert (phrase(broken), phrase(broken, damaged=False)) == ("mojibake", None)
    assert phrase(Conversation(turns("u:What does cafÃ© mean?", "a:Café."))) is None


def test_words_of_all_wanted_answers_are_counted_together() -> None:
    chat = Conversation(turns("u:one two three", "a:one two", "u:four", "a:three"))
    assert (phrase(chat, min_words=3), phrase(chat, min_words=4)) == (None, "too few words")
    assert (phrase(chat, max_words=3), phrase(chat, max_words=2)) == (None, "too many words")


def test_an_answer_in_another_language_is_dropped() -> None:
    german = Conversation(turns("u:Where is the cat?", "a:Die Katze sitzt auf der Matte und ist nicht allein."))
    assert Quality(languages=("en",)).judge(german) == Reason("other language", "de")
    assert phrase(german, languages=["en", "de"]) is None
    assert phrase(german) is None


def test_an_answer_too_short_to_tell_goes_by_what_is_asked() -> None:
    german = Conversation(turns("u:Ist die Katze auf der Matte und nicht allein?", "a:true"))
    assert phrase(german, languages=["en"]) == "other language"
    assert phrase(Conversation(turns("u:2 + 2", "a:4")), languages=["en"]) is None


def test_a_language_that_cannot_be_told_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match=r"'xx' cannot be told.*; one of am, ar"):
        Quality(languages=("xx",))


def test_the_step_can_travel_to_another_process() -> None:
    step = pickle.loads(pickle.dumps(Quality(languages=("en",)).judge))
    assert step(Conversation(turns("u:hi", f"a:{REFUSED}"))).phrase == "refusal"
