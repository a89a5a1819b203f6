import json
from dataclasses import replace

import numpy as np
import pytest
from rich.text import Text

from poise.batch.row import Row, Segment
from poise.batch.show import TRAINED, counts, mask_json, mask_text, mask_view


@pytest.fixture
def tokenizer(byte_tokenizer):
    return byte_tokenizer(eos="</s>")


def segment(tokenizer, untrained: str, trained: str, parent: int = -1) -> Segment:
    parts = [tokenizer(text, add_special_tokens=False)["input_ids"] if text else [] for text in (untrained, trained)]
    mask = [False] * len(parts[0]) + [True] * len(parts[1])
    return Segment(np.array(parts[0] + parts[1], np.int32), np.array(mask), parent)


@pytest.fixture
def pair(tokenizer) -> Row:
    answers = [
        replace(segment(tokenizer, "", text, parent=0), rank=rank) for rank, text in enumerate(("yes</s>", "no</s>"))
    ]
    return Row("0123", (segment(tokenizer, "ok? ", ""), *answers), "data.jsonl:3")


def test_the_plain_form_brackets_what_is_trained(tokenizer, pair):
    lines = mask_text(pair, tokenizer).splitlines()
    prompt, yes, no = (len(each) for each in pair.segments)
    assert lines == [
        f"── prompt, {prompt} tokens, 0 trained",
        "ok? ",
        f"── chosen, {yes} tokens, {yes} trained",
        "⟦yes</s>⟧",
        f"── rejected, {no} tokens, {no} trained",
        "⟦no</s>⟧",
        counts(pair),
    ]


def test_the_terminal_form_says_the_same_in_colour(tokenizer, pair):
    view = mask_view(pair, tokenizer)
    assert isinstance(view, Text)
    assert view.plain == mask_text(pair, tokenizer)
    coloured = [view.plain[span.start : span.end] for span in view.spans if span.style == TRAINED]
    assert coloured == ["⟦yes</s>⟧", "⟦no</s>⟧"]


def test_text_that_looks_like_markup_is_shown_as_it_is(tokenizer):
    row = Row("0", (segment(tokenizer, "[bold]hi[/bold]", "[red]yes"),))
    assert "[bold]hi[/bold]⟦[red]yes⟧" in mask_view(row, tokenizer).plain


def test_counts_tell_the_trained_share():
    row = Row("0", (Segment(np.arange(1000, dtype=np.int32), np.arange(1000) >= 750),))
    assert counts(row) == "1,000 tokens, 250 trained (25 %), longest sequence 1,000"


@pytest.mark.parametrize(
    ("segments", "labels"),
    [
        ([{}], ["text"]),
        ([{}, {}], ["chunk 1 of 2", "chunk 2 of 2"]),
        ([{}, {"parent": 0}], ["prompt", "completion"]),
        ([{}, {"parent": 0, "rank": 0}, {"parent": 0, "rank": 1}], ["prompt", "chosen", "rejected"]),
        (
            [{}, *({"parent": 0, "rank": rank} for rank in (0, 2, 2))],
            ["prompt", "answer of rank 1", "answer of rank 3", "answer of rank 3"],
        ),
        (
            [{}, {"parent": 0, "label": "undesirable"}, {"parent": 0, "label": "mismatched"}],
            ["prompt", "undesirable answer", "another row's answer, scored only"],
        ),
    ],
)
def test_segments_are_named_by_what_they_are(tokenizer, segments, labels):
    row = Row("0", tuple(replace(segment(tokenizer, "a", "b"), **each) for each in segments))
    assert [each["label"] for each in mask_json(row, tokenizer)["segments"]] == labels


def test_another_row_s_answer_is_not_shown_as_trained(tokenizer):
    row = Row("0", tuple(replace(segment(tokenizer, "", "a", parent), label=label)
                         for parent, label in ((-1, None), (0, "desirable"), (0, "mismatched"))))  # fmt: skip
    shown = mask_json(row, tokenizer)
    assert [each["text"] for each in shown["segments"]] == ["⟦a⟧", "⟦a⟧", "a"]
    assert shown["trained_tokens"] == 1
    assert shown["segments"][2]["trained"] == [False]


def test_json_holds_every_token_with_its_mask(tokenizer, pair):
    shown = json.loads(json.dumps(mask_json(pair, tokenizer)))
    assert (shown["id"], shown["place"]) == ("0123", "data.jsonl:3")
    chosen = shown["segments"][1]
    assert "".join(chosen["tokens"]) == "yes</s>"
    assert chosen["trained"] == [True] * len(chosen["ids"])
    assert chosen["text"] == "⟦yes</s>⟧"
