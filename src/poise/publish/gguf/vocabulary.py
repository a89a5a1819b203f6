"""A tokenizer as llama.cpp reads it: byte-level BPE as `gpt2`, SentencePiece's BPE as `llama`.

llama.cpp knows how text is cut before BPE by a name. Here the name follows from the cutting itself, as tokenizer.json
states it, so a tokenizer of your own gets the right one or is refused. Of SentencePiece's BPE llama.cpp wants a score
for each token, the highest joined first; the place of a token's first merge, negated, gives the same order.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from poise.errors import ModelError
from poise.publish.gguf.families import CONVERTER

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Kinds of tokens in a GGUF."""
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
ENDS_OF_LINES = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{ENDS_OF_LINES}"
LLAMA3 = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{ENDS_OF_LINES}"
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
NEVER = -1e9
"""Score of what no merge makes."""


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF says of a tokenizer, one entry for each row of the embeddings."""

    model: str
    pre: str
    tokens: list[str]
    kinds: list[int]
    scores: list[float] | None
    merges: list[str] | None
    adds_space: bool | None
    """Whether a text begins with a space that was not there; None where that is not asked."""


def vocabulary(tokenizer: Any, rows: int) -> Vocabulary:
    """Translate a tokenizer for embeddings of `rows`; ModelError where llama.cpp has no such one."""
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer has {len(tokenizer):,} tokens and the model embeddings for {rows:,}\n"
            "    to do:  merge the adapter that brings the others, or take the tokenizer of this model"
        )
    if not tokenizer.is_fast:
        raise _unknown("it has no tokenizer.json")
    found = json.loads(tokenizer.backend_tokenizer.to_str())
    model = found["model"]
    if model["type"] != "BPE":
        raise _unknown(f"it is a {model['type']} tokenizer")
    tokens, kinds = _tokens(tokenizer, rows, model)
    ranks = [f"{one} {other}" for one, other in map(_pair, model["merges"])]
    if model.get("byte_fallback"):
        return Vocabulary("llama", "default", tokens, kinds, _scores(tokens, ranks), None, _adds_space(found))
    return Vocabulary("gpt2", _cutting(found, model), tokens, kinds, None, ranks, None)


def missing_merges(tokenizer: Any) -> int:
    """Count the halves of pieces that SentencePiece, and so llama.cpp, would join and this tokenizer does not.

    What was converted from SentencePiece has them all; a BPE that was trained with byte fallback has not, and llama.cpp
    cuts some texts otherwise.
    """
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if not model.get("byte_fallback"):
        return 0
    merges = set(map(_pair, model["merges"]))
    known = model["vocab"]
    made = {one + other for one, other in merges}
    halves = ((piece[:cut], piece[cut:]) for piece in made for cut in range(1, len(piece)))
    return sum(one in known and other in known and (one, other) not in merges for one, other in halves)


def _tokens(tokenizer: Any, rows: int, model: dict[str, Any]) -> tuple[list[str], list[int]]:
    added = tokenizer.added_tokens_decoder
    by_id = {index: text for text, index in tokenizer.get_vocab().items()}
    tokens = [by_id.get(index, f"[PAD{index}]") for index in range(rows)]
    kinds: list[int] = []
    for index, text in enumerate(tokens):
        if index not in by_id:
            kinds.append(UNUSED)
        elif text == model.get("unk_token"):
            kinds.append(UNKNOWN)
        elif index in added:
            kinds.append(CONTROL if added[index].special else USER_DEFINED)
        else:
            kinds.append(BYTE if model.get("byte_fallback") and BYTE_TOKEN.fullmatch(text) else NORMAL)
    return tokens, kinds


def _pair(merge: Any) -> tuple[str, str]:
    """Read a merge as tokenizer.json writes it: two strings, or in older files one with a space."""
    one, other = merge.split(" ", 1) if isinstance(merge, str) else merge
    return one, other


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    place: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        place.setdefault(merge.replace(" ", "", 1), rank)
    return [-float(place[token]) if token in place else NEVER for token in tokens]


def _adds_space(found: dict[str, Any]) -> bool:
    steps = [*_steps(found.get("normalizer"), "normalizers"), *_steps(found.get("pre_tokenizer"), "pretokenizers")]
    return any(
        step["type"] == "Prepend" or (step["type"] == "Metaspace" and step.get("prepend_scheme") != "never")
        for step in steps
    )


def _cutting(found: dict[str, Any], model: dict[str, Any]) -> str:
    """Return llama.cpp's name for how a byte-level tokenizer cuts text before BPE."""
    for step in _steps(found.get("normalizer"), "normalizers"):
        if step["type"] != "NFC":
            raise _unknown(f"it normalises text by {step['type']}")
    steps = _steps(found.get("pre_tokenizer"), "pretokenizers")
    bytes_of = [step for step in steps if step["type"] == "ByteLevel"]
    if len(bytes_of) != 1 or steps[-1:] != bytes_of or bytes_of[0].get("add_prefix_space"):
        raise _unknown("it is not byte-level without a space before each text")
    before = steps[:-1]
    ignores_merges = bool(model.get("ignore_merges"))
    if bytes_of[0].get("use_regex", True):
        digits = [step for step in before if step["type"] == "Digits" and step.get("individual_digits")]
        if before == digits and len(digits) < 2 and not ignores_merges:
            return "smollm" if digits else "gpt-2"
    elif len(before) == 1 and before[0]["type"] == "Split" and before[0].get("behavior") == "Isolated":
        pattern = before[0]["pattern"].get("Regex")
        names = {(QWEN2, False): "qwen2", (LLAMA3, True): "llama-bpe", (LLAMA3, False): "dbrx"}
        if name := names.get((pattern, ignores_merges)):
            return name
    raise _unknown(f"it cuts text by {json.dumps(before or steps, ensure_ascii=False)[:160]}")


def _steps(found: dict[str, Any] | None, within: str) -> list[dict[str, Any]]:
    if found is None:
        return []
    return found[within] if found["type"] == "Sequence" else [found]


def _unknown(why: str) -> ModelError:
    return ModelError(f"poise cannot put this tokenizer into a GGUF: {why}\n    to do:  {CONVERTER}")
