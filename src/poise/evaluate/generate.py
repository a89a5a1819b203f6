"""Answer questions with a model: batched, left-padded, the prompt cut off by its length.

An answer does not depend on what shares its batch: greedy, or drawn with noise of the question's own seed.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from poise import progress
from poise.batch.attention import use_attention
from poise.batch.render import Renderer
from poise.batch.score import usual_attention, without_adapter
from poise.evaluate.answer import Answer
from poise.evaluate.questions import Question

BATCH = 32
SECONDS_BETWEEN_WORDS = 0.1
"""How often what has been said so far is told: reading it costs more than a small model's next token."""


def _pass(question: Question, answer: Answer) -> None:
    """Do nothing with an answer when it is there."""


@torch.no_grad()
def answer(
    model: Any,
    renderer: Renderer,
    questions: Sequence[Question],
    *,
    max_new_tokens: int,
    label: str,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = BATCH,
    keep: Callable[[Question, Answer], None] = _pass,
    hear: Callable[[Question, str], None] | None = None,
) -> list[Answer]:
    """Answer every question, in order; prompts of similar length share a batch. `keep` is told of each at once.

    `hear` is told what has been said so far, now and then; what it raises ends the answers of its batch unkept.
    """
    causal_lm = without_adapter(model)
    was_training = model.training
    model.eval()
    prompts = [_prompt_ids(renderer, question) for question in questions]
    by_length = sorted(range(len(questions)), key=lambda index: len(prompts[index]))
    answers: dict[int, Answer] = {}
    with use_attention(causal_lm, usual_attention(causal_lm)), progress.stage(f"ask {label}", len(questions)) as stage:
        for start in range(0, len(by_length), batch_size):
            chosen = by_length[start : start + batch_size]
            width = max(len(prompts[index]) for index in chosen)
            heard = _Heard(renderer, [questions[index] for index in chosen], width, hear) if hear else None
            completions = complete(
                model,
                [prompts[index] for index in chosen],
                max_new_tokens=max_new_tokens,
                stop_ids=renderer.prepared.stop_ids,
                pad_id=renderer.prepared.pad_id,
                temperature=temperature,
                seeds=[seed_of(seed, questions[index].id) for index in chosen],
                stops=[heard] if heard else [],
            )
            for index, completion in zip(chosen, completions, strict=True):
                answers[index] = _answer(renderer, questions[index], completion)
                keep(questions[index], answers[index])
            stage.advance(len(answers))
    model.train(was_training)
    return [answers[index] for index in range(len(questions))]


def complete(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    pad_id: int | None,
    temperature: float = 0.0,
    seeds: Sequence[int] = (),
    stops: Sequence[Callable[..., Any]] = (),
) -> list[list[int]]:
    """Continue prompts in one batch; returns what follows each, padding included.

    `seeds` are the prompts' own, for a temperature above 0; `stops` are transformers' StoppingCriteria.
    """
    pad = pad_id if pad_id is not None else 0
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    generated = model.generate(
        input_ids=ids,
        attention_mask=seen,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        logits_processor=[_Noise(temperature, seeds, model.device)] if temperature > 0 else [],
        stopping_criteria=list(stops),
        eos_token_id=list(stop_ids),
        pad_token_id=pad,
    )
    return generated[:, width:].tolist()


def compare(
    questions: Sequence[Question], answers: dict[str, list[Answer]]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Lay the models' answers side by side: (lines of samples.jsonl, evidence.json)."""
    samples = [
        {
            "id": question.id,
            "set": question.set,
            "prompt": [asdict(message) for message in question.prompt] or [{"role": "text", "content": question.text}],
            "expected": " | ".join(question.expected) or None,
            "answers": {label: asdict(given[index]) for label, given in answers.items()},
        }
        for index, question in enumerate(questions)
    ]
    scored = {question.set for question in questions if question.expected}
    sets: list[dict[str, Any]] = []
    for name in sorted(scored):
        of_set = [index for index, question in enumerate(questions) if question.set == name and question.expected]
        counts = {label: sum(given[index].score or 0 for index in of_set) for label, given in answers.items()}
        sets.append(
            {
                "name": name,
                "title": name,
                "n": len(of_set),
                "counts": {label: int(count) for label, count in counts.items()},
                "scores": {label: count / len(of_set) for label, count in counts.items()},
            }
        )
    return samples, {"labels": list(answers), "sets": sets}


def _prompt_ids(renderer: Renderer, question: Question) -> list[int]:
    if question.prompt:
        return list(renderer.prompt(question.prompt))
    return list(renderer.prepared.tokenizer(question.text)["input_ids"])


def seed_of(seed: int, id: str) -> int:
    """Return the seed of one question's own draws."""
    return int.from_bytes(hashlib.sha256(f"{seed} {id}".encode()).digest()[:7])


class _Noise:
    """Adds Gumbel noise of each row's own generator, under which the largest score is a draw from the softmax.

    Gumbel-max (Maddison et al. 2014, arXiv 1411.0030, equation 3): argmax(logits / T + noise) ~ softmax(logits / T).
    """

    def __init__(self, temperature: float, seeds: Sequence[int], device: Any) -> None:
        self._temperature = temperature
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.stack(
            [
                torch.empty(scores.shape[1], device=scores.device).exponential_(generator=generator)
                for generator in self._generators
            ]
        )
        return scores.float() / self._temperature - noise.log()


class _Heard:
    """Tells what each row has said so far; it ends none."""

    def __init__(
        self, renderer: Renderer, questions: Sequence[Question], width: int, hear: Callable[[Question, str], None]
    ) -> None:
        self._renderer, self._questions, self._width, self._hear = renderer, questions, width, hear
        self._told = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        if time.monotonic() - self._told >= SECONDS_BETWEEN_WORDS:
            for question, completion in zip(self._questions, input_ids[:, self._width :].tolist(), strict=True):
                said, _ = _said(self._renderer, completion)
                text = str(self._renderer.prepared.tokenizer.decode(said, skip_special_tokens=True))
                self._hear(question, text.rstrip("\ufffd"))  # the first bytes of a character whose others follow
            self._told = time.monotonic()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _answer(renderer: Renderer, question: Question, completion: list[int]) -> Answer:
    kept, stopped = _said(renderer, completion)
    text = str(renderer.prepared.tokenizer.decode(kept, skip_special_tokens=True))
    return Answer(text, len(kept), stopped, question.score(text))


def _said(renderer: Renderer, completion: list[int]) -> tuple[list[int], bool]:
    """Return the tokens before the first stop token, and whether there is one."""
    stops = set(renderer.prepared.stop_ids)
    end = next((index for index, token in enumerate(completion) if token in stops), None)
    return (completion, False) if end is None else (completion[:end], True)
