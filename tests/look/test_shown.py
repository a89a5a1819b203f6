"""What is shown of a row."""

from poise.look.shown import beginning, shown


def test_a_pair_says_which_answer_is_which(pair) -> None:
    assert shown("preference_pair", pair("a:1", "q", "good", "bad")) == [
        {"who": "user", "text": "q"},
        {"who": "chosen", "text": "good"},
        {"who": "rejected", "text": "bad"},
    ]


def test_a_turn_of_another_in_an_answer_says_whose_it_is(pair, turns) -> None:
    row = pair("a:1", "q", "good", "bad") | {"chosen": turns("", "good", "and?", "better")[1:]}
    assert [turn["who"] for turn in shown("preference_pair", row)] == [
        "user", "chosen", "chosen, user", "chosen", "rejected",
    ]  # fmt: skip


def test_many_turns_are_told_and_the_label_still_shown(turns) -> None:
    told = shown("labeled_conversation", {"messages": turns(*"x" * 22), "desirable": False})
    assert len(told) == 22
    assert told[-2:] == [{"who": "…", "text": "2 more turns"}, {"who": "label", "text": "not desirable"}]


def test_a_document_is_a_text_without_a_speaker() -> None:
    assert shown("document", {"text": "r" * 5000}) == [{"who": "text", "text": "r" * 4000 + " … 1,000 more characters"}]


def test_a_row_is_told_apart_by_what_follows_the_system_prompt(turns) -> None:
    told = shown("conversation", {"messages": turns("ask", "r", system="Be kind.")})
    assert beginning(told) == {"who": "user", "text": "ask"}
    assert beginning([]) is None
