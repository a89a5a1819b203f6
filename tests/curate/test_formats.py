"""Prompt formats, rows cut into one per answer, and both in a curated folder."""

import json
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from poise.batch.tokens import shipped_templates
from poise.curate.curation import Curation
from poise.curate.diff import diff
from poise.curate.diff import told as told_diff
from poise.curate.formats import Formats, expanded, formats_of
from poise.curate.pipeline import curate
from poise.curate.texts import normalised
from poise.curate.trace import told, trace
from poise.examples import Conversation, Document, Example, Message, PreferencePair
from poise.sources import SourceSpec, load

FOUR = ["alpaca", "vicuna", "llama-2", "chatml"]
IDS = [f"a:{index}" for index in range(2000)]
POLICIES = {"all": 4, "slices": 3, "one": 1}


def chat(*texts: str, **more: Any) -> Conversation:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[index % 2], text) for index, text in enumerate(texts))
    return Conversation(messages, "a", ("a.jsonl:1",), **more)


def row(*texts: str) -> dict[str, Any]:
    return {"messages": [{"role": m.role, "content": m.content} for m in chat(*texts).messages]}


# Which formats a row has ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "each"), POLICIES.items())
def test_every_row_has_as_many_formats_as_the_policy_says(policy: Any, each: int) -> None:
    found = formats_of(IDS, FOUR, policy, seed=42)
    assert {len(formats) for formats in found} == {each}
    counts = Counter(name for formats in found for name in formats)
    assert counts.total() == each * len(IDS)
    assert all(abs(counts[name] - len(IDS) * each / 4) < 100 for name in FOUR)


def test_slices_leave_each_row_out_of_one_of_any_number_of_formats() -> None:
    every = [*shipped_templates(), "tokenizer"]
    for size in range(2, len(every) + 1):
        found = formats_of(IDS, every[:size], "slices", seed=42)
        assert {len(set(formats)) for formats in found} == {size - 1}
        assert {name for formats in found for name in formats} == set(every[:size])


def test_other_rows_do_not_change_a_row_s_formats() -> None:
    found = formats_of(IDS, FOUR, "one", seed=42)
    assert formats_of(["b:0", *IDS], FOUR, "one", seed=42)[1:] == found
    assert formats_of(IDS, FOUR, "one", seed=43) != found


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"use": ["alpacca"]}, "'alpacca' is no prompt format; did you mean 'alpaca'"),
        ({"use": ["qqq"]}, "there are alpaca, .*, tokenizer"),
        ({"use": []}, "at least 1 item"),
        ({"use": ["alpaca", "alpaca"], "policy": "one"}, "alpaca is there twice"),
        ({"use": ["alpaca"], "policy": "slices"}, "slices chooses among several formats, `use` names 1"),
        ({"policy": "one"}, "one chooses among several formats"),
    ],
)
def test_formats_that_make_no_sense_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Formats(**keys)


# One row for each answer ---------------------------------------------------------------------------------------------


def test_a_conversation_becomes_one_row_for_each_answer() -> None:
    whole = ("one?", "1", "two?", "2", "three?", "3")
    assert expanded(chat(*whole)) == [chat(*whole[:end], trained="last") for end in (2, 4, 6)]


def test_an_open_question_is_left_out_and_an_empty_answer_gives_no_row() -> None:
    assert expanded(chat("one?", "1", "two?")) == [chat("one?", "1", trained="last")]
    assert expanded(chat("one?", " ", "two?", "2")) == [chat("one?", " ", "two?", "2", trained="last")]
    assert expanded(chat("one?")) == [chat("one?")]


# In a curated folder -------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(build, pair) -> Any:
    """Build 40 rows of one answer, 20 of three, 10 pairs and 5 documents; keywords are recipe keys."""

    def make(**keys: Any) -> Any:
        rows = {
            "short": [row(f"What is {n}?", f"It is {n}.") for n in range(40)],
            "long": [row(f"First {n}?", "1.", f"Then {n}?", "2.", f"Last {n}?", "3.") for n in range(20)],
            "pairs": [pair(f"Which is {n}?") for n in range(10)],
            "texts": [{"text": f"Text number {n}."} for n in range(5)],
        }
        return build(rows, **keys)

    return make


def written(built: Any, kind: str) -> list[dict[str, Any]]:
    return [*built.rows(kind), *built.rows(kind, "test")]


@pytest.mark.parametrize(("policy", "turns"), list(product(POLICIES, ("whole", "each"))))
def test_the_folder_has_every_row_in_its_formats(mixed, policy: str, turns: str) -> None:
    built = mixed(formats={"use": FOUR, "policy": policy, "turns": turns}, split={"test": 0.2})
    each, conversations = POLICIES[policy], 60 if turns == "whole" else 40 + 3 * 20
    chats, pairs = written(built, "conversation"), written(built, "preference_pair")
    assert len(chats) == each * conversations
    assert len(pairs) == each * 10
    assert len(written(built, "document")) == 5
    counts = json.loads((built.out / "ledger.json").read_text())
    assert (counts["in"], counts["used"], counts["dropped"]) == (75, 75, {})
    found = Counter(row["chat_template"] for row in [*chats, *pairs])
    assert counts["formats"] == {
        "rows": 70,
        "after_expansion": conversations + 10,
        "made_by_expansion": conversations - 60,
        "kept_their_own": 0,
        "written": dict(sorted(found.items())),
        "documents": 5,
    }
    assert {row["trained_answers"] for row in chats} == {"all" if turns == "whole" else "last"}
    by_answer = Counter((row["id"], len(row["messages"])) for row in chats)
    assert set(by_answer.values()) == {each}
    assert len(by_answer) == conversations
    assert all("chat_template" not in row for row in written(built, "document"))
    manifest = json.loads((built.out / "curation.json").read_text())
    assert manifest["stages"][-1]["formats"] == counts["formats"]
    card = (built.out / "README.md").read_text()
    assert f"| chatml | {found['chatml']:,} |" in card
    assert ("70 rows became 110, one for each answer" in card) == (turns == "each")


@pytest.mark.parametrize(("policy", "turns"), list(product(POLICIES, ("whole", "each"))))
def test_no_prompt_is_in_train_and_in_test(build, pair, policy: str, turns: str) -> None:
    """40 openings, each of a chat of one answer, two chats that go on differently, and a pair: 160 rows."""
    short = [row(f"Question {n}?", "Yes.") for n in range(40)]
    long = [row(f"question  {n}?", "No.", f"Why {n} {way}?", "So.") for n in range(40) for way in ("here", "there")]
    built = build(
        {"short": short, "long": long, "pairs": [pair(f"QUESTION {n}?") for n in range(40)]},
        formats={"use": [*FOUR, "tokenizer"], "policy": policy, "turns": turns},
        split={"test": 0.3},
    )
    train, test = (prompts(built.out, split) for split in ("train", "test"))
    assert len({prompt[0] for prompt in train | test}) == 40
    assert len({prompt[0] for prompt in test}) in range(5, 20)
    assert train & test == set()


def test_a_published_test_split_shares_no_prompt_with_rows_that_go_on_from_its_questions(build) -> None:
    rows = {"exam": [row("What is 1?", "1.")], "chats": [row("What is 1?", "One.", "Sure?", "Yes."), row("2?", "2.")]}
    built = build(rows, each={"exam": {"held_out": True}}, formats={"turns": "each"})
    assert prompts(built.out, "train") & prompts(built.out, "test") == set()
    assert built.counts["dropped"] == {"hold_out: asks a held-out question": 1}


def prompts(out: Path, split: str) -> set[tuple[str, ...]]:
    """Collect from the written files every prompt that an answer is trained or judged after, case and space aside."""
    found: set[tuple[str, ...]] = set()
    for kind in (Conversation, PreferencePair):
        for example in load(SourceSpec(str(out), split=split), prefer=kind).examples:
            found.update(tuple(normalised(turn.content) for turn in prompt) for prompt in trained_after(example))
    return found


def trained_after(example: Example) -> list[tuple[Message, ...]]:
    if isinstance(example, PreferencePair):
        return [example.prompt]
    assert isinstance(example, Conversation)
    ends = [end for end, message in enumerate(example.messages) if message.role == "assistant"]
    return [example.messages[:end] for end in (ends if example.trained == "all" else ends[-1:])]


def test_rows_are_read_back_in_their_forms(mixed) -> None:
    built = mixed(formats={"use": FOUR, "turns": "each"})
    chats = load(SourceSpec(str(built.out)), prefer=Conversation).examples
    assert Counter(e.template for e in chats if isinstance(e, Conversation)) == dict.fromkeys(FOUR, 100)
    assert {e.trained for e in chats if isinstance(e, Conversation)} == {"last"}
    pairs = load(SourceSpec(str(built.out)), prefer=PreferencePair).examples
    assert Counter(e.template for e in pairs if isinstance(e, PreferencePair)) == dict.fromkeys(FOUR, 10)
    assert len({example.id for example in chats}) == 400
    documents = load(SourceSpec(str(built.out)), prefer=Document).examples
    assert len(documents) == 5


def test_without_formats_nothing_is_said_of_any(mixed) -> None:
    built = mixed()
    assert "formats" not in json.loads((built.out / "ledger.json").read_text())
    assert "chat_template" not in built.rows()[0]
    assert "Prompt formats" not in (built.out / "README.md").read_text()


def test_answers_alone_may_become_rows_in_the_model_s_own_template(mixed) -> None:
    built = mixed(formats={"turns": "each"})
    assert len(built.rows()) == 100
    assert {row["chat_template"] for row in built.rows()} == {"tokenizer"}


def test_documents_are_the_same_bytes_with_formats_and_without(mixed) -> None:
    files = [mixed(out=name, **keys).files() for name, keys in (("a", {}), ("b", {"formats": {"use": FOUR}}))]
    assert files[0]["data/document/train-00000.parquet"] == files[1]["data/document/train-00000.parquet"]


def test_a_repeated_row_may_come_in_another_format_each_time(build) -> None:
    rows = {"a": [row(f"What is {n}?", f"{n}.") for n in range(30)]}
    built = build(rows, each={"a": {"repeat": 3}}, formats={"use": FOUR, "policy": "one"})
    forms: dict[str, set[str]] = {}
    for each in built.rows():
        forms.setdefault(each["id"], set()).add(each["chat_template"])
    assert len(built.rows()) == 90
    assert max(map(len, forms.values())) == 3


@pytest.mark.parametrize(("keys", "plain"), [({"formats": {"use": ["alpaca", "vicuna"]}}, 2), ({}, 1)])
def test_rows_that_have_a_form_keep_it_when_they_are_curated_again(
    mixed, tmp_path: Path, keys: dict[str, Any], plain: int
) -> None:
    first = mixed(out="first", formats={"use": ["chatml"], "turns": "each"})
    (tmp_path / "plain.jsonl").write_text(json.dumps(row("Something new?", "Yes.")) + "\n")
    sources = [{"path": str(first.out), "name": "first"}, {"path": str(tmp_path / "plain.jsonl"), "name": "plain"}]
    curate(Curation(out=str(tmp_path / "again"), sources=sources, steps=(), **keys))  # type: ignore[arg-type]
    rows = load(SourceSpec(str(tmp_path / "again")), prefer=Conversation).examples
    kept = [each for each in rows if isinstance(each, Conversation) and each.template == "chatml"]
    assert len(kept) == 100
    assert {each.trained for each in kept} == {"last"}
    assert len(rows) - len(kept) == plain
    counts = json.loads((tmp_path / "again" / "ledger.json").read_text())["formats"]
    assert (counts["kept_their_own"], counts["written"]["chatml"]) == (110, 110)


def test_trace_shows_every_form_of_a_row_and_diff_what_formats_changed(mixed) -> None:
    plain = mixed(out="plain")
    built = mixed(out="formed", formats={"use": ["chatml", "alpaca"], "turns": "each"})
    row_id = next(row["id"] for row in built.rows() if len(row["messages"]) == 6)
    (passport,) = trace(built.out, row_id)
    forms = [place.partition(" ")[2] for place in passport["written"]]
    assert forms == ["(chatml, the last answer)", "(alpaca, the last answer)"] * 3
    assert "(chatml, the last answer)" in told(passport)
    found = diff(plain.out, built.out)
    assert found["rows"] == {"before": 75, "after": 75, "gone": 0, "come": 0}
    assert found["formats"]["written"] == (None, {"alpaca": 110, "chatml": 110})
    assert "formats: written: None → {'alpaca': 110, 'chatml': 110}" in told_diff(found)
