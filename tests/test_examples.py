"""Examples: values with an id of their content alone, and JSON that gives the same value back."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.examples import (
    KINDS,
    Conversation,
    Document,
    Example,
    LabeledConversation,
    Message,
    PreferencePair,
    RankedAnswers,
    content_id,
    from_json,
    to_json,
)

messages = st.builds(Message, st.sampled_from(("system", "user", "assistant", "tool")), st.text())
turns = st.lists(messages, max_size=3).map(tuple)
ranks = st.integers(0, 9)
places = {"source": st.text(max_size=5), "lineage": st.lists(st.text(max_size=5), max_size=2).map(tuple)}
formed = {**places, "template": st.sampled_from(("", "chatml", "tokenizer"))}
examples = st.one_of(
    st.builds(Document, st.text(), **places),
    st.builds(Conversation, turns, **formed, trained=st.sampled_from(("all", "last"))),
    st.builds(PreferencePair, turns, turns, turns, **formed),
    st.builds(LabeledConversation, turns, st.booleans(), **formed),
    st.builds(RankedAnswers, turns, st.lists(turns, max_size=3).map(tuple), st.lists(ranks).map(tuple), **formed),
)


@given(examples)
def test_json_gives_the_same_example_back(example: Example) -> None:
    assert from_json(json.loads(json.dumps(to_json(example)))) == example


@given(examples)
def test_where_an_example_came_from_does_not_change_its_id(example: Example) -> None:
    moved = dataclasses.replace(example, source="elsewhere", lineage=("elsewhere:1",))
    assert moved.id == example.id == content_id(example)
    assert len(example.id) == 16


def test_content_and_kind_change_the_id() -> None:
    ask, reply = Message("user", "a"), Message("assistant", "b")
    ids = [
        Document("a").id,
        Document("a ").id,
        Conversation((ask, reply)).id,
        Conversation((reply, ask)).id,
        Conversation((ask, Message("user", "b"))).id,
        LabeledConversation((ask, reply), True).id,
        LabeledConversation((ask, reply), False).id,
        PreferencePair((ask,), (reply,), ()).id,
        PreferencePair((ask,), (), (reply,)).id,
        PreferencePair((ask, reply), (), ()).id,
        RankedAnswers((ask,), ((reply,), (ask,)), (0, 1)).id,
        RankedAnswers((ask,), ((reply,), (ask,)), (1, 0)).id,
        RankedAnswers((ask,), ((ask,), (reply,)), (0, 1)).id,
    ]
    assert len(set(ids)) == len(ids)


def test_the_id_is_the_same_in_every_process() -> None:
    program = "from poise.examples import Document; print(Document('naïve').id)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.strip() == Document("naïve").id


def test_examples_are_frozen_and_can_be_kept_in_sets() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Document("a").text = "b"  # type: ignore[misc]
    assert len({Document("a"), Document("a"), Document("b")}) == 2


def test_every_kind_is_known_by_its_name() -> None:
    kinds = {"document", "conversation", "preference_pair", "labeled_conversation", "ranked_answers"}
    assert set(KINDS) == kinds
    assert all(kind == cls.kind for kind, cls in KINDS.items())


def test_the_answer_of_a_labelled_conversation_is_its_last_assistant_turn() -> None:
    ask, reply, thanks = Message("user", "a"), Message("assistant", "b"), Message("user", "c")
    assert LabeledConversation((ask, reply, thanks, reply, thanks), True).prompt == (ask, reply, thanks)
    assert LabeledConversation((ask,), True).prompt == ()


def test_a_template_and_what_is_trained_are_content_where_they_are_given() -> None:
    """The id of a plain row is the one that it had before rows could have a template: the hash of its messages."""
    row = Conversation((Message("user", "a"), Message("assistant", "b")))
    messages = '[{"content":"a","role":"user"},{"content":"b","role":"assistant"}]'
    assert row.id == hashlib.sha256(f'["conversation",{{"messages":{messages}}}]'.encode()).hexdigest()[:16]
    others = [
        dataclasses.replace(row, template="chatml"),
        dataclasses.replace(row, template="alpaca"),
        dataclasses.replace(row, trained="last"),
    ]
    assert len({row.id, *(other.id for other in others)}) == 4
    assert to_json(row).keys() == {"kind", "id", "messages", "source", "lineage"}
