"""HH-RLHF's preferred dialogues."""

from poise.examples import Conversation, Message

CHOSEN = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: Bye\n\nAssistant: Goodbye!"


def test_the_preferred_transcript_becomes_a_conversation(read) -> None:
    turns = (Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Bye"))
    expected = Conversation((*turns, Message("assistant", "Goodbye!")), lineage=("rows:1",))
    assert read("hh_rlhf_chosen", [{"chosen": CHOSEN, "rejected": "anything"}]).examples == [expected]


def test_a_row_that_is_no_transcript_is_told(read) -> None:
    (bad,) = read("hh_rlhf_chosen", [{"chosen": "Hello!"}]).bad
    assert bad.place == "rows:1"
