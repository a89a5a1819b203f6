"""Traps of curation that no other file tests, each by its smallest input; docs/traps.md names tests for every trap."""

import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
QUESTION = "How many legs has the old green spider in the garden?"


def test_every_trap_of_the_page_has_tests_that_are_there() -> None:
    rows = [line for line in (ROOT / "docs" / "traps.md").read_text().splitlines() if line.startswith("| ")]
    heads = [row for row in rows if row == "| what goes wrong | tests |"]
    assert len(heads) == 5
    for row in rows:
        named = NAMED.findall(row)
        assert named or row in heads, f"no test stands beside: {row}"
        for file, name in named:
            assert f"\ndef {name}(" in (ROOT / file).read_text(), f"{file} has no {name}"


# Ids and copies ------------------------------------------------------------------------------------------------------


def test_a_copy_is_told_by_its_folded_question_and_written_as_it_was(build, chat) -> None:
    """The same word composed, decomposed, in capitals and with other spaces."""
    asked = "What is  Café?"
    forms = [unicodedata.normalize("NFD", asked), asked.upper(), " what is\ncafé? "]
    built = build({"a": [chat(asked)], "b": [chat(form) for form in forms]}, each={"a": {"confidence": 3}})
    assert built.questions() == [asked]
    assert [drop["reason"] for drop in built.ledger()] == ["copy"] * 3


def test_of_equal_confidence_the_recipe_s_order_decides_and_no_name(build, chat) -> None:
    for order in ("za", "az"):
        built = build({name: [chat("same", name)] for name in order}, out=order)
        assert [row["source"] for row in built.rows()] == [order[0]]


def test_equal_rows_have_ids_of_their_own_and_a_row_that_goes_takes_no_other_along(build, chat, exam) -> None:
    """Of three chats that open alike, two of them equal, the one goes that asks a benchmark's question later."""
    leak = {"messages": [*chat("Hi")["messages"], *chat(QUESTION)["messages"]]}
    built = build({"a": [chat("Hi"), chat("Hi"), leak]}, steps=[exam])
    assert len({row["id"] for row in built.rows()}) == len(built.rows()) == 2
    assert [drop["place"] for drop in built.ledger()] == ["a.jsonl:3"]


def test_one_build_remembers_nothing_of_another_in_the_same_process(build, chat) -> None:
    rows = {"a": [chat("1"), chat("2")]}
    assert [len(build(rows, out=name).rows()) for name in ("first", "second")] == [2, 2]


@pytest.fixture
def exam(tmp_path: Path) -> dict[str, object]:
    """The step that looks for QUESTION."""
    path = tmp_path / "exam.jsonl"
    path.write_text(json.dumps({"prompt": QUESTION}) + "\n")
    return {"decontaminate": {"benchmarks": [{"name": "exam", "path": str(path)}]}}


# Leaks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [1, 2])
def test_chats_of_lmsys_are_looked_through_for_leaks_whatever_their_turns(build, chat, exam, turns: int) -> None:
    """Bagel kept the role `user`, looked for `human`, and dropped chats of several turns unseen."""
    asked = [f"Number {turn}, please." for turn in range(1, turns)]
    rows = [
        {
            "model": "gpt-4",
            "conversation": [message for question in [*asked, last] for message in chat(question)["messages"]],
            "language": "English",
            "openai_moderation": [],
            "redacted": False,
        }
        for last in (QUESTION, "Another one?")
    ]
    built = build({"a": rows}, steps=[exam], each={"a": {"source": "lmsys_chat_1m"}})
    assert built.questions() == ["Another one?"]
    assert [(drop["stage"], drop["reason"]) for drop in built.ledger()] == [("decontaminate", "leaks exam")]


def test_importing_the_benchmarks_reads_nothing_from_the_network() -> None:
    script = """
import socket
def refused(*_, **__):
    raise AssertionError("the network was asked")
socket.getaddrinfo = socket.socket.connect = refused
import poise.curate.steps.decontaminate, poise.curate.benchmarks
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# Formats -------------------------------------------------------------------------------------------------------------


def test_no_row_is_given_a_system_prompt_that_it_did_not_have(build, chat) -> None:
    """Bagel made one up at random, and without a seed."""
    rows = [*(chat(str(number)) for number in range(20)), chat("said", system="Be brief.")]
    built = build({"a": rows}, formats={"use": ["alpaca", "vicuna", "llama-2", "chatml"]})
    systems = [message["content"] for row in built.rows() for message in row["messages"] if message["role"] == "system"]
    assert systems == ["Be brief."] * 4


def test_a_pair_keeps_its_system_prompt_and_all_of_its_turns_in_every_format(build, pair) -> None:
    """Bagel rendered the last question alone."""
    prompt = [
        {"role": role, "content": content}
        for role, content in (("system", "Be brief."), ("user", "1"), ("assistant", "One."), ("user", "2"))
    ]
    answers = {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    built = build({"a": [{"prompt": prompt, **answers}]}, formats={"use": ["alpaca", "chatml"]})
    assert [row["prompt"] for row in built.rows("preference_pair")] == [prompt, prompt]
