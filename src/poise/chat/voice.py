"""A model that answers while it is listened to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from poise.batch.attention import use_attention
from poise.batch.score import usual_attention, without_adapter
from poise.chat.talk import NotNow
from poise.evaluate.answer import Sampling
from poise.evaluate.engine import Engine, InProcess
from poise.evaluate.generate import complete
from poise.evaluate.questions import Question
from poise.examples import Message

Tell = Callable[[str], None]
"""Is told the answer so far, again and again."""


class Voice(Protocol):
    """Answers a conversation."""

    @property
    def name(self) -> str:
        """What the terminal calls it."""
        ...

    def say(self, messages: Sequence[Message], sampling: Sampling, tell: Tell) -> str:
        """Answer, telling as it goes; KeyboardInterrupt ends the answer where it is."""
        ...


@dataclass(frozen=True)
class Streaming:
    """A model in this process."""

    name: str
    engine: InProcess

    def say(self, messages: Sequence[Message], sampling: Sampling, tell: Tell) -> str:
        """Answer token by token."""
        model, renderer = self.engine.model, self.engine.renderer
        prompt = renderer.prompt(messages)
        room = getattr(model.config, "max_position_embeddings", None)
        if room is not None and len(prompt) >= room:
            raise NotNow(f"{len(prompt):,} tokens are more than {self.name} can see ({room:,}): /undo or /clear")
        prepared = renderer.prepared
        watch = _Watch(prepared.tokenizer, len(prompt), set(prepared.stop_ids), tell)
        causal_lm = without_adapter(model)
        try:
            with torch.no_grad(), use_attention(causal_lm, usual_attention(causal_lm)):
                complete(
                    model,
                    [prompt],
                    max_new_tokens=min(
                        sampling.max_new_tokens, room - len(prompt) if room else sampling.max_new_tokens
                    ),
                    stop_ids=prepared.stop_ids,
                    pad_id=prepared.pad_id,
                    temperature=sampling.temperature,
                    seeds=[sampling.seed],
                    stops=[watch],
                )
        except KeyboardInterrupt:
            pass
        return watch.text


class _Watch:
    """Is asked by transformers after every token whether to stop, and tells what has been said so far."""

    def __init__(self, tokenizer: Any, start: int, stops: set[int], tell: Tell) -> None:
        self._tokenizer, self._start, self._stops, self._tell = tokenizer, start, stops, tell
        self.text = ""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        ids = input_ids[0, self._start :].tolist()
        if ids and ids[-1] in self._stops:
            ids = ids[:-1]
        self.text = str(self._tokenizer.decode(ids, skip_special_tokens=True))
        if not self.text.endswith("�"):  # bytes of a character that is not whole yet
            self._tell(self.text)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@dataclass(frozen=True)
class Whole:
    """A model behind a server, whose answer comes at once."""

    name: str
    engine: Engine

    def say(self, messages: Sequence[Message], sampling: Sampling, tell: Tell) -> str:
        """Ask and wait."""
        question = Question("chat", "chat", tuple(messages))
        answer = self.engine.answer([question], sampling, self.name, lambda question, answer: None)[0]
        tell(answer.text)
        return answer.text
