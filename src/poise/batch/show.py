"""What a row looks like to the loss: trained tokens coloured, or between ⟦brackets⟧ where there is no colour.

prompt      <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n
chosen      ⟦hello<|im_end|>⟧\n
rejected    ⟦go away<|im_end|>⟧\n
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from rich.text import Text

from poise.batch.row import Row, Segment, without_mismatched

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRAINED, UNTRAINED, LABEL = "bold green", "dim", "bold cyan"
OPEN, CLOSE = "⟦", "⟧"


def mask_text(row: Row, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the row as plain text, the trained parts between brackets, segments labelled, counts below."""
    return mask_view(row, tokenizer).plain


def mask_view(row: Row, tokenizer: "PreTrainedTokenizerBase") -> Text:
    """Return the row for a terminal: as `mask_text`, and coloured."""
    view = Text()
    for label, segment in zip(_labels(row), row.segments, strict=True):
        view.append(f"── {label}, {_count(segment)}\n", LABEL)
        for text, trained in _spans(segment, tokenizer):
            view.append(f"{OPEN}{text}{CLOSE}" if trained else text, TRAINED if trained else UNTRAINED)
        view.append("\n")
    return view.append(counts(row), LABEL)


def segment_text(segment: Segment, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return one segment with brackets around what is trained."""
    return "".join(f"{OPEN}{text}{CLOSE}" if trained else text for text, trained in _spans(segment, tokenizer))


def counts(row: Row) -> str:
    """Return one line: tokens, trained tokens and their share."""
    trained, tokens = without_mismatched(row).trained_tokens, row.tokens
    share = 100 * trained / tokens if tokens else 0
    return f"{tokens:,} tokens, {trained:,} trained ({share:.0f} %), longest sequence {max(row.sequence_lengths()):,}"


def mask_json(row: Row, tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """Return the row as JSON-ready values: every token of every segment with its text and whether it is trained."""
    return {
        "id": row.id,
        "place": row.place,
        "tokens": row.tokens,
        "trained_tokens": without_mismatched(row).trained_tokens,
        "segments": [
            {
                "label": label,
                "parent": segment.parent,
                "ids": segment.ids.tolist(),
                "trained": _learned(segment).tolist(),
                "tokens": [_decode(tokenizer, [index]) for index in segment.ids.tolist()],
                "text": segment_text(segment, tokenizer),
            }
            for label, segment in zip(_labels(row), row.segments, strict=True)
        ],
    }


def _labels(row: Row) -> list[str]:
    """Name the segments by what they are: prompt and answers, chunks of a document, or one text."""
    roots = sum(segment.parent < 0 for segment in row.segments)
    if roots == len(row.segments):
        return ["text"] if roots == 1 else [f"chunk {index + 1} of {roots}" for index in range(roots)]
    is_pair = sum(segment.rank is not None for segment in row.segments) == 2
    return ["prompt", *(_answer_label(segment, is_pair) for segment in row.segments[1:])]


def _answer_label(answer: Segment, is_pair: bool) -> str:
    if answer.label == "mismatched":
        return "another row's answer, scored only"
    if answer.rank is not None:
        return ("chosen", "rejected")[answer.rank > 0] if is_pair else f"answer of rank {answer.rank + 1}"
    return f"{answer.label} answer" if answer.label else "completion"


def _count(segment: Segment) -> str:
    return f"{len(segment):,} tokens, {int(_learned(segment).sum()):,} trained"


def _learned(segment: Segment) -> npt.NDArray[np.bool_]:
    """(tokens,) whether the model learns the token; another row's answer has log-probabilities, but no gradient."""
    return segment.trained & (segment.label != "mismatched")


def _spans(segment: Segment, tokenizer: "PreTrainedTokenizerBase") -> Iterator[tuple[str, bool]]:
    """Yield the runs of equally trained tokens as text."""
    tokens = zip(segment.ids.tolist(), _learned(segment).tolist(), strict=True)
    for trained, run in groupby(tokens, key=lambda token: token[1]):
        yield _decode(tokenizer, [index for index, _ in run]), trained


def _decode(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    text = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return cast(str, text)
