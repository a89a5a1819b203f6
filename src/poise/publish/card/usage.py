"""How a model is used: the template and stop tokens saved with it, tried on its own files before they are told.

Read without transformers, from tokenizer.json, the chat template and the generation settings of the folder.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise.curate.tokenizer import FileTokenizer, read_tokenizer
from poise.errors import ModelError

QUESTION, ANSWER = "What is the capital of France?", "\U000f0000"


@dataclass(frozen=True)
class Usage:
    """What was found of a model's way to ask it."""

    prompt: str = ""
    """A question as the saved template writes it; empty without one."""
    stop: str = ""
    """The token that ends an answer."""
    fault: str = ""
    """Why the template cannot be said to be right; empty where it was verified."""


def usage_of(model: Path, trained_with: str | None = None) -> Usage:
    """Ask the saved template for a prompt, and whether default generation stops where its answers end.

    `trained_with` is the hash of the template that the last training rendered its rows with.
    """
    try:
        files = read_tokenizer(str(model))
        if not files.chat_template:
            return Usage(fault="no chat template is saved with it; it continues plain text")
        tokenizer = FileTokenizer(files)
        asked = [{"role": "user", "content": QUESTION}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True)
        text = tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": ANSWER}])
    except Exception as error:  # a template raises whatever it likes, and a card says so
        return Usage(fault=f"the saved template could not be tried: {str(error).splitlines()[0][:200]}")
    saved = hashlib.sha256(files.chat_template.encode()).hexdigest()[:16]
    if trained_with not in (None, saved):
        return Usage(prompt, fault="the saved template is another one than it was trained with")
    if not text.startswith(prompt):
        return Usage(prompt, fault="the saved template prompts with another text than an answer follows in training")
    after = text.rpartition(ANSWER)[2]
    tokens = {token.content: index for index, token in tokenizer.added_tokens_decoder.items()}
    ends = sorted((after.index(token), -len(token), token) for token in tokens if token.strip() and token in after)
    if not ends:
        return Usage(prompt, fault="the saved template ends an answer with no token that generation could stop at")
    stop = ends[0][2]
    if tokens[stop] not in _stops(model):
        return Usage(prompt, stop, f"answers end in {stop}, at which the saved generation settings do not stop")
    return Usage(prompt, stop)


def _stops(model: Path) -> list[int]:
    file = model / "generation_config.json"
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    stops = values.get("eos_token_id")
    return stops if isinstance(stops, list) else [] if stops is None else [int(stops)]


def refuse_untrusted(usage: Usage) -> None:
    """Refuse to hand on a model whose template was found wrong."""
    if usage.fault and usage.prompt:
        raise ModelError(
            f"{usage.fault}\n    why:    whoever asks this model by its template would not get what was trained\n"
            "    to do:  train with a template of poise, which saves its stop token with the model"
        )
