"""What counts as prompt and answer, in characters, tokens and turns; lengths derived by hand."""

from pathlib import Path

from poise.look import measure
from poise.look.look import look
from poise.look.told import told


def test_the_answer_is_what_the_assistant_says_and_the_prompt_everything_else(curated, chat, pair) -> None:
    """One chat of 2 + 3 + 1 characters asked and 4 + 5 answered; a pair of 1 asked, 2 chosen, 7 rejected; text of 9."""
    folder = curated(
        {
            ("conversation", "train"): [chat("a:1", "ask", "ääää", "x", "again", system="be")],
            ("preference_pair", "train"): [pair("a:2", "q", "ok", "refused")],
            ("document", "train"): [{"id": "a:3", "source": "a", "text": "some text"}],
        }
    )
    found = look(folder)["lengths"]["characters"]
    longest = {part: (each["rows"], each["longest"]) for part, each in found.items()}
    assert longest == {"prompt": (2, 6), "answer": (2, 9), "rejected": (1, 7), "combined": (2, 15), "document": (1, 9)}
    assert found["combined"]["counts"] == [1 if length in (15, 3) else 0 for length in range(16)]
    assert found["combined"]["edges"] == list(range(17))


def test_the_best_of_ranked_answers_and_a_labeled_answer_are_measured(curated, chat, turns) -> None:
    ranked = {"id": "a:1", "source": "a", "prompt": turns("ask"), "ranks": [1, 0]}
    answers = [turns("", text)[1:] for text in ("worse one", "best")]
    folder = curated(
        {
            ("ranked_answers", "train"): [
                ranked | {"answers": answers},
                ranked | {"id": "a:2", "answers": answers[::-1], "ranks": [0, 1]},
            ],
            ("labeled_conversation", "train"): [chat("a:3", "ask", "bad answer") | {"label": False}],
        }
    )
    facts = look(folder)
    assert facts["lengths"]["characters"]["answer"]["counts"] == [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1]
    assert {turn["who"] for each in facts["examples"]["a"] for turn in each["turns"]} == {
        "user", "assistant", "answer of rank 0", "answer of rank 1", "label",
    }  # fmt: skip


def test_measured_tokens_are_shown_with_the_cut_of_the_recipe(curated, chat) -> None:
    rows = [chat(f"a:{size}", "q", "r", prompt_tokens=1, answer_tokens=size - 1, tokens=size) for size in (2, 3, 3, 30)]
    document = {"id": "a:d", "source": "a", "text": "t", "prompt_tokens": 0, "answer_tokens": 7, "tokens": 7}
    folder = curated(
        {("conversation", "train"): rows, ("document", "train"): [document]},
        steps=["exact", {"tokens": {"tokenizer": "some/model", "max": 64}}],
    )
    facts = look(folder)
    tokens = facts["lengths"]["tokens"]
    assert tokens["combined"]["edges"] == list(range(0, 67, 2))
    assert tokens["combined"]["counts"] == [0, 3, *[0] * 13, 1, *[0] * 17]
    assert (tokens["combined"]["cut"], tokens["prompt"]["cut"]) == (64, None)
    assert {part: found["rows"] for part, found in tokens.items()} == {
        "prompt": 4, "answer": 4, "combined": 4, "document": 1,
    }  # fmt: skip
    assert facts["counted_by"] == "some/model, 5 rows"
    assert "cut 64" in (folder / "look.html").read_text()
    assert f"  {' ' * 32}^ cut 64" in told(facts).splitlines()


def test_a_tokenizer_counts_under_its_template(curated, chat, tokenizer: Path) -> None:
    """<user> one two three <end> <assistant> is asked, two <end> answered."""
    folder = curated({("conversation", "train"): [chat("a:1", "one two three", "two")]})
    facts = look(folder, tokenizer=str(tokenizer))
    found = {part: each["longest"] for part, each in facts["lengths"]["tokens"].items()}
    assert found == {"prompt": 6, "answer": 2, "combined": 8}
    assert facts["counted_by"] == f"{tokenizer}, 1 row"


def test_a_tokenizer_counts_a_sample_of_many_rows(curated, chat, tokenizer: Path, monkeypatch) -> None:
    monkeypatch.setattr(measure, "TOKENIZED_ROWS", 100)
    rows = [chat(f"a:{number}", "one", "two") for number in range(1000)]
    facts = look(curated({("conversation", "train"): rows}), tokenizer=str(tokenizer))
    counted = facts["lengths"]["tokens"]["combined"]["rows"]
    assert 70 < counted < 130, "binomial of 1,000 and 0.1: 100, sd 9.5"
    assert facts["counted_by"] == f"{tokenizer}, {counted} rows, chosen by hash"
    assert facts["lengths"]["characters"]["combined"]["rows"] == 1000


def test_turns_leave_out_the_system_prompt_and_the_rejected_answer(curated, chat, pair) -> None:
    folder = curated(
        {
            ("conversation", "train"): [chat("a:1", "1", "2", system="s"), chat("a:2", "1", "2", "3", "4")],
            ("preference_pair", "train"): [pair("a:3", "q", "good", "bad")],
            ("document", "train"): [{"id": "a:4", "source": "a", "text": "text"}],
        }
    )
    facts = look(folder)
    assert facts["turns"]["counts"] == [0, 0, 2, 0, 1]
    assert facts["system"] == {"with": 1, "of": 3}
    assert "  with a system prompt: 1 of 3, 33 %" in told(facts)
