"""The two sides of a rehearsal: a model as transformers runs it, and a GGUF as llama.cpp does.

Each renders a prompt with the template and tokenizer that its files carry, answers greedily, and reads a text: at each
token, which one it would take next and how likely it finds the one that comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from poise.batch.tokens import TEMPLATE_ERRORS
from poise.chat_template import render
from poise.evaluate.generate import complete
from poise.evaluate.questions import Question

AT_ONCE = 8
"""Prompts that are answered in one batch."""


@dataclass(frozen=True)
class Reading:
    """What a model makes of a text, at every token but the last."""

    likeliest: Tensor
    """(tokens - 1,) the id it would take next."""
    logps: Tensor
    """(tokens - 1,) log-probability of the id that comes next, in nats."""


class Side(Protocol):
    """A model that answers and reads."""

    @property
    def name(self) -> str:
        """What runs it, with its version."""
        ...

    def prompt(self, question: Question) -> list[int]:
        """Return the ids that it is fed; none where its template refuses the question."""
        ...

    def answer(self, prompts: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
        """Continue each greedily by at most `limit` tokens; a stop token is the last."""
        ...

    def read(self, ids: Sequence[int]) -> Reading:
        """Read a text."""
        ...

    def stops_at(self, ids: Sequence[int]) -> list[int]:
        """Return those of the ids that end an answer."""
        ...


@dataclass(frozen=True)
class InTransformers:
    """A model that transformers loaded, with the tokenizer from beside it."""

    model: Any
    tokenizer: Any
    stop_ids: tuple[int, ...]
    """Where its answers are ended."""
    named_stops: tuple[int, ...]
    """Where its files say that they end."""
    over: str = ""
    """What it computes over, where that is not a folder of its own."""

    @property
    def name(self) -> str:
        """Say the version and where it computes."""
        return f"transformers {version('transformers')} on {self.model.device.type}{self.over}"

    def prompt(self, question: Question) -> list[int]:
        """Render with the template, as everybody who loads the folder does."""
        if not question.prompt:
            return list(self.tokenizer(question.text)["input_ids"])
        messages = [{"role": message.role, "content": message.content} for message in question.prompt]
        try:
            render(self.tokenizer.get_chat_template(), messages, tokens=self.tokenizer.special_tokens_map)  # in limits
            return list(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
        except TEMPLATE_ERRORS:
            return []

    @torch.no_grad()
    def answer(self, prompts: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
        """Answer in batches."""
        self.model.eval()
        pad = self.tokenizer.pad_token_id
        said: list[list[int]] = []
        for start in range(0, len(prompts), AT_ONCE):
            some = prompts[start : start + AT_ONCE]
            said += complete(self.model, some, max_new_tokens=limit, stop_ids=self.stop_ids, pad_id=pad)
        return [_to_the_stop(ids, self.stop_ids) for ids in said]

    @torch.no_grad()
    def read(self, ids: Sequence[int]) -> Reading:
        """Read in one forward pass."""
        self.model.eval()
        return _reading(self.model(input_ids=torch.tensor([ids], device=self.model.device)).logits[0], ids)

    def stops_at(self, ids: Sequence[int]) -> list[int]:
        """Look them up."""
        return [index for index in ids if index in self.named_stops]


class InLlamaCpp:
    """A GGUF that llama.cpp runs, through llama-cpp-python."""

    def __init__(self, file: Path, context: int) -> None:
        """Load the file for texts of at most `context` tokens."""
        from llama_cpp import Llama  # pyright: ignore[reportMissingImports]

        self._llama: Any = Llama(str(file), n_ctx=context, n_batch=context, logits_all=True, verbose=False)
        self._template: Any = _template(self._llama)

    @property
    def name(self) -> str:
        """Say the version of what carries llama.cpp."""
        return f"llama.cpp in llama-cpp-python {version('llama-cpp-python')}"

    def prompt(self, question: Question) -> list[int]:
        """Render with the template in the file and cut with llama.cpp's tokenizer."""
        if not question.prompt:
            return self._llama.tokenize(question.text.encode(), add_bos=True, special=True)  # where the file says so
        if self._template is None:
            return []
        messages = [{"role": message.role, "content": message.content} for message in question.prompt]
        try:
            text = self._template(messages=messages).prompt
        except TEMPLATE_ERRORS:
            return []
        return self._llama.tokenize(text.encode(), add_bos=False, special=True)

    def answer(self, prompts: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
        """Answer one after another."""
        return [self._answer(list(prompt), limit) for prompt in prompts]

    def read(self, ids: Sequence[int]) -> Reading:
        """Read from the start; nothing of an earlier text is kept."""
        self._llama.reset()
        self._llama.eval(list(ids))
        return _reading(torch.from_numpy(np.array(self._llama.scores[: len(ids)])), ids)

    def stops_at(self, ids: Sequence[int]) -> list[int]:
        """Ask llama.cpp which tokens end a generation."""
        from llama_cpp import llama_vocab_is_eog  # pyright: ignore[reportMissingImports]

        return [index for index in ids if llama_vocab_is_eog(self._vocabulary(), index)]

    def _answer(self, prompt: list[int], limit: int) -> list[int]:
        self._llama.reset()
        self._llama.eval(prompt)
        said: list[int] = []
        while len(said) < limit:
            said.append(int(np.argmax(self._llama.scores[self._llama.n_tokens - 1])))
            if self.stops_at(said[-1:]):
                break
            self._llama.eval(said[-1:])
        return said

    def _vocabulary(self) -> Any:
        return self._llama._model.vocab  # pyright: ignore[reportPrivateUsage] - it has no public name


def llama_cpp_is_installed() -> bool:
    """Whether a GGUF can be run here."""
    return find_spec("llama_cpp") is not None


def _template(llama: Any) -> Any:
    """Return llama-cpp-python's own renderer of the template that the file holds; None where it holds none."""
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter  # pyright: ignore[reportMissingImports]

    template = llama.metadata.get("tokenizer.chat_template")
    if template is None:
        return None

    def text(index: int) -> str:
        return llama._model.token_get_text(index) if index >= 0 else ""

    return Jinja2ChatFormatter(
        template=template,
        eos_token=text(llama.token_eos()),
        bos_token=text(llama.token_bos()),
    )


def _reading(logits: Tensor, ids: Sequence[int]) -> Reading:
    scores = logits[:-1].float().cpu()
    following = torch.tensor(ids[1:])
    logps = scores.log_softmax(-1).gather(1, following[:, None])[:, 0]
    return Reading(scores.argmax(-1), logps)


def _to_the_stop(ids: list[int], stops: Sequence[int]) -> list[int]:
    end = next((place for place, index in enumerate(ids) if index in stops), len(ids))
    return ids[: end + 1]
