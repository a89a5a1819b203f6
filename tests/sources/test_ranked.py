"""Answers with their order, in the columns that datasets use: the highest score and the lowest rank are the best."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from poise.errors import DataError
from poise.examples import Conversation, LabeledConversation, Message, PreferencePair, RankedAnswers, to_json
from poise.sources import SourceSpec, load

Write = Callable[..., str]

HI = Message("user", "Hi")
SAID = tuple((Message("assistant", text),) for text in ("Hello", "Yes?", "No"))
TEXTS = ["Hello", "Yes?", "No"]
ULTRAFEEDBACK = {
    "source": "sharegpt",
    "instruction": "Hi",
    "models": ["a", "b", "c"],
    "completions": [
        {"response": text, "overall_score": score, "fine-grained_score": 1.0, "custom_system_prompt": "x", "model": "m"}
        for text, score in zip(TEXTS, (8.5, 3.0, 3.0), strict=True)
    ],
    "correct_answers": ["None"],
}
NECTAR = {
    "prompt": "\n\nHuman: Hi\n\nAssistant: ",
    "answers": [
        {"answer": text, "model": "m", "rank": rank} for text, rank in zip(TEXTS, (2.0, 1.0, 7.0), strict=True)
    ],
    "turns": 1,
}


def read(path: str, **options: Any) -> RankedAnswers:
    """Load a file of one row of ranked answers."""
    loaded = load(SourceSpec(path), **options)
    assert not loaded.drops
    (example,) = loaded.examples
    assert isinstance(example, RankedAnswers)
    return example


@pytest.mark.parametrize(
    ("row", "ranks"),
    [
        pytest.param({"prompt": "Hi", "answers": TEXTS, "scores": [1, 9, 5]}, (2, 0, 1), id="scores"),
        pytest.param({"prompt": "Hi", "answers": TEXTS, "ranks": [1, 9, 5]}, (0, 2, 1), id="ranks"),
        pytest.param({"prompt": "Hi", "responses": TEXTS, "scores": [0.5, -1, 0.5]}, (0, 1, 0), id="ties"),
        pytest.param({"prompt": "Hi", "completions": TEXTS, "ranks": [0, 1, 1]}, (0, 1, 1), id="ranks from 0"),
        pytest.param({"instruction": "Hi", "completions": TEXTS, "scores": [3, 2, 1]}, (0, 1, 2), id="instruction"),
        pytest.param(ULTRAFEEDBACK, (0, 1, 1), id="ultrafeedback"),
        pytest.param(NECTAR, (1, 0, 2), id="nectar"),
        pytest.param(
            {"prompt": "Hi", "answers": TEXTS, "responses": None, "scores": None, "ranks": [3, 2, 1]},
            (2, 1, 0),
            id="columns that hold nothing do not count",
        ),
        pytest.param(
            {
                "prompt": [{"role": "user", "content": "Hi"}],
                "answers": [[{"role": "assistant", "content": text}] for text in TEXTS],
                "scores": [3, 2, 1],
            },
            (0, 1, 2),
            id="messages",
        ),
        pytest.param(
            {
                "prompt": [{"role": "user", "content": "Hi"}],
                "answers": [{"role": "assistant", "content": text} for text in TEXTS],
                "scores": [3, 2, 1],
            },
            (0, 1, 2),
            id="one message each",
        ),
        pytest.param(
            {
                "prompt": "Hi",
                "answers": [
                    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}] for text in TEXTS
                ],
                "scores": [3, 2, 1],
            },
            (0, 1, 2),
            id="messages that repeat the prompt",
        ),
        pytest.param(
            {"prompt": "Hi", "answers": [f"\n\nHuman: Hi\n\nAssistant: {text}" for text in TEXTS], "scores": [3, 2, 1]},
            (0, 1, 2),
            id="transcripts that repeat the prompt",
        ),
    ],
)
def test_columns_decide_the_order(jsonl: Write, row: dict[str, Any], ranks: tuple[int, ...]) -> None:
    example = read(jsonl(row))
    assert (example.prompt, example.answers, example.ranks) == ((HI,), SAID, ranks)


def test_a_system_prompt_and_an_input_come_before_the_answers(jsonl: Write) -> None:
    row = {"instruction": "Add", "input": "1 2", "completions": TEXTS, "scores": [3, 2, 1], "system": "Be kind."}
    assert read(jsonl(row)).prompt == (Message("system", "Be kind."), Message("user", "Add\n\n1 2"))


def test_the_first_score_that_every_answer_has_is_taken(jsonl: Write) -> None:
    answers = [
        {"response": "Hello", "overall_score": None, "fine-grained_score": 2.5},
        {"response": "Yes?", "overall_score": 9.0, "fine-grained_score": 4.0},
    ]
    assert read(jsonl({"instruction": "Hi", "completions": answers})).ranks == (1, 0)


def test_what_poise_writes_it_reads_again(jsonl: Write) -> None:
    ranked = RankedAnswers((HI,), SAID, (1, 0, 1))
    assert read(jsonl(to_json(ranked))).id == ranked.id
    labelled = LabeledConversation((HI, *SAID[2]), desirable=False)
    (example,) = load(SourceSpec(jsonl(to_json(labelled))), prefer=Conversation).examples
    assert example.id == labelled.id


def test_curated_answers_keep_their_order(jsonl: Write, tmp_path: Any) -> None:
    from poise.curate.curation import Curation
    from poise.curate.pipeline import curate

    row = {"prompt": "Hi", "answers": TEXTS, "scores": [1, 9, 5]}
    path = jsonl(row, row)
    assert curate(Curation(out=str(tmp_path / "out"), sources=({"path": path},)))["used"] == 1
    assert read(str(tmp_path / "out")).id == read_first(path).id


def read_first(path: str) -> RankedAnswers:
    example = load(SourceSpec(path)).examples[0]
    assert isinstance(example, RankedAnswers)
    return example


def test_a_chosen_and_a_rejected_answer_win_unless_ranked_ones_are_wanted(jsonl: Write) -> None:
    path = jsonl({"prompt": "Hi", "answers": TEXTS, "scores": [3, 2, 1], "chosen": "Hello", "rejected": "No"})
    (example,) = load(SourceSpec(path)).examples
    assert isinstance(example, PreferencePair)
    assert read(path, prefer=RankedAnswers).ranks == (0, 1, 2)


@pytest.mark.parametrize(
    ("row", "reason", "evidence"),
    [
        ({"prompt": "Hi", "answers": TEXTS, "scores": [5, 5, 5]}, "no answer ranks above another", "answers"),
        ({"prompt": "Hi", "answers": ["Hello"], "scores": [5]}, "no answer ranks above another", "answers"),
        ({"prompt": "Hi", "answers": [], "scores": []}, "no answer ranks above another", "answers"),
        (
            {"prompt": "Hi", "answers": ["a", [{"role": "user", "content": "Yo"}]], "scores": [2, 1]},
            "no shared prompt",
            "answers[1]",
        ),
    ],
)
def test_row_that_can_teach_nothing_is_dropped_with_its_reason(
    jsonl: Write, row: dict[str, Any], reason: str, evidence: str
) -> None:
    (drop,) = load(SourceSpec(jsonl(row))).drops
    assert (drop.place, drop.reason, drop.evidence) == ("data.jsonl:1", reason, evidence)


def test_columns_choose_where_two_would_do(jsonl: Write) -> None:
    path = jsonl({"prompt": "Hi", "answers": TEXTS, "scores": [3, 2, 1], "ranks": [3, 2, 1]})
    with pytest.raises(DataError, match=r"'scores' and 'ranks'[\s\S]*to do:  name the columns to read in `columns`"):
        load(SourceSpec(path))
    (example,) = load(SourceSpec(path, columns=("prompt", "answers", "ranks"))).examples
    assert isinstance(example, RankedAnswers)
    assert example.ranks == (2, 1, 0)


def test_parquet_keeps_lists_of_answers(tmp_path: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([ULTRAFEEDBACK]), tmp_path / "a.parquet")
    example = read(str(tmp_path / "a.parquet"))
    assert (example.answers, example.ranks) == (SAID, (0, 1, 1))
    assert json.dumps(to_json(example))
