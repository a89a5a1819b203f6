from itertools import pairwise
from pathlib import Path

import pytest

from poise.examples import Message, PreferencePair
from poise.run import Drop
from poise.sources import SourceSpec, load
from poise.sources.refusal import RowError
from poise.sources.transcripts import parse_transcript


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def test_transcript_is_cut_at_its_markers():
    assert parse_transcript("\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye", "chosen") == (
        user("Hi"),
        assistant("Hello"),
        user("Bye"),
    )


def test_word_that_only_looks_like_a_marker_stays_in_the_text():
    text = "\n\nHuman: Human: x\nAssistant: y\n\nThe Assistant: z"
    assert parse_transcript(text, "chosen") == (user("Human: x\nAssistant: y\n\nThe Assistant: z"),)


def test_marker_without_a_space_is_a_marker():
    assert parse_transcript("\n\nHuman:Hi\n\nAssistant:", "chosen") == (user("Hi"), assistant(""))


def test_neighbours_of_one_role_become_one_turn():
    text = "\n\nHuman: a\n\nHuman: b\n\nAssistant:\n\nAssistant: c"
    assert parse_transcript(text, "chosen") == (user("a\n\nb"), assistant("c"))


@pytest.mark.parametrize("text", ["Hello", "Human: Hi\n\nAssistant: Hello", ""])
def test_text_without_an_opening_marker_is_refused(text: str):
    with pytest.raises(RowError, match=r"no turn markers|text before the first marker"):
        parse_transcript(text, "chosen")


def test_every_row_of_the_hh_sample_is_used_or_dropped_with_a_reason(shared_data: Path):
    name = "harmless-base-sample.jsonl.gz"
    loaded = load(SourceSpec(str(shared_data / "hh-rlhf" / name)))
    assert loaded.rows_in == {name: 1200}
    assert len(loaded.examples) == 1196
    assert loaded.drops == [
        Drop("load", name, f"{name}:{row}", "empty completion", evidence="chosen") for row in (87, 517, 926, 1104)
    ]


def test_every_hh_prompt_ends_with_the_user_and_every_answer_opens_with_the_assistant(shared_data: Path):
    loaded = load(SourceSpec(str(shared_data / "hh-rlhf" / "harmless-base-sample.jsonl.gz")))
    for pair in loaded.examples:
        assert isinstance(pair, PreferencePair)
        assert pair.prompt[-1].role == "user"
        assert pair.chosen[0].role == pair.rejected[0].role == "assistant"
        for side in (pair.chosen, pair.rejected):
            roles = [message.role for message in (*pair.prompt, *side)]
            assert all(role != following for role, following in pairwise(roles))


def test_first_hh_row_is_read_as_it_is_written(shared_data: Path):
    first = load(SourceSpec(str(shared_data / "hh-rlhf" / "harmless-base-sample.jsonl.gz"), split="train[:1]"))
    (pair,) = first.examples
    assert isinstance(pair, PreferencePair)
    assert [message.role for message in pair.prompt] == ["user", "assistant"] * 2 + ["user"]
    assert pair.prompt[0] == user("what are some pranks with a pen i can do?")
    assert [message.content[:11] for message in (*pair.chosen, *pair.rejected)] == ["No, sorry! ", "There are l"]
    assert pair.lineage == ("harmless-base-sample.jsonl.gz:1",)
