"""Merge an adapter into the base it was trained on, and prove on disk that the model is still the same.

    base, adapter ──float32──> merged ──dtype──> staged folder ──reopened──> compared ──> renamed
          └──────── logits and greedy answers on the run's own prompts ────────────┘

The base is known by the hash that the adapter carries. Over quantized weights (QLoRA) the base is what those weights
dequantise to, which is what the adapter was trained on. The evidence stands in merge.json.
"""

import gc
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from poise import progress
from poise.batch.render import Renderer
from poise.batch.tokens import PreparedTokenizer, prepare_tokenizer
from poise.errors import DivergenceError, ModelError, RunError
from poise.evaluate.generate import answer
from poise.evaluate.questions import Question, questions_of_samples
from poise.models.open import open_causal_lm, open_config, open_tokenizer
from poise.recipe_sections import ModelSection
from poise.run import Run, model_folder, now, write_whole
from poise.train.adapters import ADAPTER_BASE, adapter_config, put_on
from poise.train.merged import merge_adapter, merge_facts
from poise.train.model import (
    Hardware,
    load_model,
    load_tokenizer,
    quiet_libraries,
    set_stop_tokens,
)
from poise.train.quantize import dequantise, is_quantized

MERGE = "merge.json"
Dtype = Literal["float32", "bfloat16", "float16"]
TOLERANCE = 1e-5
"""Largest difference of a logit that float32 may show; in 16 bits the greedy answers decide."""
PROMPTS = 16
NEW_TOKENS = 48
TEXTS = ("The capital of France is", "Once upon a time there was", "def add(a, b):", "2 + 2 =")
"""Continued where a run has asked nothing."""


@dataclass(frozen=True)
class Shown:
    """What a model does on the prompts."""

    logits: list[Tensor]
    """Per prompt with the unmerged model's answer, (tokens, vocabulary) float32 on the CPU."""
    answers: list[str]


def merge(run: Path, out: Path | None = None, *, dtype: Dtype | None = None, tolerance: float | None = None,
          overwrite: bool = False) -> dict[str, Any]:  # fmt: skip
    """Merge the adapter of a run, or of a folder that holds one, into `out`; returns what merge.json holds.

    `dtype` is by default that of the base as it is stored. `tolerance` bounds the largest difference of a logit, by
    default in float32 alone.

    Raises:
        ModelError: there is no adapter, or its base is not the one it was trained on.
        DivergenceError: the merged model differs by more than allowed; nothing is left at `out`.
    """
    quiet_libraries()
    adapter = model_folder(run)
    out = out or run.resolve().parent / f"{run.resolve().name}-merged"
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise RunError(f"{out} is not empty\n    to do:  replace it with --overwrite, or name another --out")
    section = _section(run, adapter)
    prepared = prepare_tokenizer(load_tokenizer(section), None)
    kind = dtype or _stored_dtype(section)
    hardware = Hardware(torch.device("cpu"), torch.float32, autocast=False)
    questions = _questions(run)
    facts = merge_facts(section, replace(hardware, dtype=getattr(torch, kind)))
    staging = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        asked, before = _write_merged(section, hardware, prepared, kind, questions, staging)
        after = _reopened(staging, prepared, kind, questions, asked)
        told = facts | {
            "dtype": kind,
            "tolerance": tolerance if tolerance is not None or kind != "float32" else TOLERANCE,
        }
        evidence = _evidence(told, adapter, section, questions, before, after)
        _refuse_different(evidence, out)
        write_whole(staging / MERGE, json.dumps(evidence, indent=2, ensure_ascii=False) + "\n")
        shutil.rmtree(out, ignore_errors=True)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    progress.say(
        f"merged: {out} · {kind}, largest difference of a logit {evidence['largest_logit_difference']:.2g}, "
        f"{evidence['same_answers']} of {evidence['prompts']} greedy answers the same"
    )
    return evidence


def _section(run: Path, adapter: Path) -> ModelSection:
    """Say how the run loaded its base: quantized or whole."""
    config = adapter_config(str(adapter), "main") if adapter.is_dir() else None
    if config is None:
        raise ModelError(
            f"{run} holds no adapter\n    why:    where all weights are trained there is nothing to merge\n"
            f"    to do:  use {adapter} as it is, or name a run with use_peft"
        )
    base = config["base_model_name_or_path"]
    if Path(base).is_dir() and adapter_config(base, "main") is not None:
        raise ModelError(f"{adapter} stands on {base}, an adapter itself\n    to do:  poise merge {base} first")
    if not (adapter / ADAPTER_BASE).is_file():
        progress.say(f"warning: {adapter} does not say which weights it was trained on; those of {base} are taken")
    resolved = run / "recipe.resolved.yaml"
    if not resolved.is_file():
        return ModelSection.model_validate({"model_name_or_path": str(adapter), "use_peft": True})
    from poise.recipe import load_recipe

    recipe = load_recipe(str(Run(run).manifest["verb"]), resolved)
    return recipe.model.model_copy(
        update={"model_name_or_path": str(adapter), "model_revision": "main", "tokenizer_name_or_path": None}
    )


def _stored_dtype(section: ModelSection) -> Dtype:
    """Return the type of the base's weights on disk; float32 where it is none of ours."""
    config = adapter_config(section.model_name_or_path, "main") or {}
    base = open_config(config["base_model_name_or_path"], config.get("revision") or "main")
    name = str(getattr(base, "dtype", None)).removeprefix("torch.")
    return name if name in ("bfloat16", "float16") else "float32"  # pyright: ignore[reportReturnType]


def _questions(run: Path) -> list[Question]:
    asked = questions_of_samples(Run(run).samples())
    return asked[:PROMPTS] or [Question(str(index), "text", text=text) for index, text in enumerate(TEXTS)]


def _write_merged(
    section: ModelSection, hardware: Hardware, prepared: PreparedTokenizer, kind: Dtype, questions: list[Question],
    staging: Path,
) -> tuple[list[list[int]], Shown]:  # fmt: skip
    """Look at the unmerged model, merge it and write it; returns the tokens it was looked at on, and what it did."""
    model = load_model(section, hardware).model
    renderer = Renderer(prepared)
    answers = [each.text for each in answer(model, renderer, questions, max_new_tokens=NEW_TOKENS, label="unmerged")]
    tokens = [_ids(renderer, question, said) for question, said in zip(questions, answers, strict=True)]
    shown = Shown(_logits(model, tokens), answers)
    if is_quantized(section):
        base = dequantise(model.unload())
        model = put_on(base, section.model_name_or_path, "main")
    merged = merge_adapter(model).to(getattr(torch, kind))
    merged.config.dtype = getattr(torch, kind)
    set_stop_tokens(merged, prepared)
    merged.save_pretrained(str(staging))
    merged.generation_config.save_pretrained(staging)
    prepared.tokenizer.save_pretrained(staging)
    del model, merged
    gc.collect()
    return tokens, shown


def _reopened(
    folder: Path, prepared: PreparedTokenizer, kind: Dtype, questions: list[Question], tokens: list[list[int]]
) -> Shown:
    """Load what was written, as anybody would, and look at it on the same tokens."""
    model = open_causal_lm(str(folder), dtype=getattr(torch, kind))
    tokenizer = open_tokenizer(str(folder))
    renderer = Renderer(prepare_tokenizer(tokenizer, None))
    if list(renderer.prepared.stop_ids) != list(prepared.stop_ids):
        raise ModelError(f"{folder}: the tokenizer stops at other tokens once it is read back; this is a defect")
    answers = answer(model, renderer, questions, max_new_tokens=NEW_TOKENS, label="merged")
    return Shown(_logits(model, tokens), [each.text for each in answers])


def _ids(renderer: Renderer, question: Question, said: str) -> list[int]:
    tokenizer = renderer.prepared.tokenizer
    start = list(renderer.prompt(question.prompt)) if question.prompt else list(tokenizer(question.text)["input_ids"])
    return [*start, *tokenizer(said, add_special_tokens=False)["input_ids"]]


@torch.no_grad()
def _logits(model: Any, tokens: list[list[int]]) -> list[Tensor]:
    model.eval()
    return [model(input_ids=torch.tensor([ids], device=model.device)).logits[0].float().cpu() for ids in tokens]


def _evidence(
    facts: dict[str, Any], adapter: Path, section: ModelSection, questions: list[Question], before: Shown, after: Shown
) -> dict[str, Any]:
    differences = [float((one - other).abs().max()) for one, other in zip(before.logits, after.logits, strict=True)]
    pairs = list(zip(before.answers, after.answers, strict=True))
    config = adapter_config(str(adapter), "main") or {}
    return {
        **facts,
        "base_name": config["base_model_name_or_path"],
        "adapter_name": str(adapter),
        "base_known_by_hash": (adapter / ADAPTER_BASE).is_file(),
        "quantized_base": "4bit" if section.load_in_4bit else "8bit" if section.load_in_8bit else None,
        "created": now(),
        "prompts": len(questions),
        "largest_logit_difference": max(differences),
        "same_answers": sum(one == other for one, other in pairs),
        "answers": [
            {"id": question.id, "difference": difference, "unmerged": one, "merged": other}
            for question, difference, (one, other) in zip(questions, differences, pairs, strict=True)
        ],
    }


def _refuse_different(evidence: dict[str, Any], out: Path) -> None:
    largest, tolerance = evidence["largest_logit_difference"], evidence["tolerance"]
    same, asked = evidence["same_answers"], evidence["prompts"]
    too_far = tolerance is not None and not largest <= tolerance
    if same < asked or too_far:
        allowed = f", allowed is {tolerance:.2g}" if tolerance is not None else ""
        raise DivergenceError(
            f"the merged model is not the unmerged one: largest difference of a logit {largest:.3g}{allowed}; "
            f"{same} of {asked} greedy answers the same. Nothing was written to {out}\n"
            "    why:    rounding to 16 bits, or an adapter that does not merge exactly\n"
            "    to do:  dtype float32, or --tolerance where the difference is small and the answers agree"
        )
