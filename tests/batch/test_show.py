import json

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
    answers = [segment(tokenizer, "", text, parent=0) for text in ("yes</s>", "no</s>")]
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
    ("parents", "labels"),
    [
        ([-1], ["text"]),
        ([-1, -1], ["chunk 1 of 2", "chunk 2 of 2"]),
        ([-1, 0], ["prompt", "completion"]),
        ([-1, 0, 0], ["prompt", "chosen", "rejected"]),
        ([-1, 0, 0, 0], ["prompt", "answer 1", "answer 2", "answer 3"]),
    ],
)
def test_segments_are_named_by_the_shape_of_the_row(tokenizer, parents, labels):
    row = Row("0", tuple(segment(tokenizer, "a", "b", parent) for parent in parents))
    assert [each["label"] for each in mask_json(row, tokenizer)["segments"]] == labels


def test_json_holds_every_token_with_its_mask(tokenizer, pair):
    shown = json.loads(json.dumps(mask_json(pair, tokenizer)))
    assert (shown["id"], shown["place"]) == ("0123", "data.jsonl:3")
    chosen = shown["segments"][1]
    assert "".join(chosen["tokens"]) == "yes</s>"
    assert chosen["trained"] == [True] * len(chosen["ids"])
    assert chosen["text"] == "⟦yes</s>⟧"
