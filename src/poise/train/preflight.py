"""Preflight of a training: gather what is known before the model is loaded, ask every check, tell and keep the answer.

What the device or transformers would refuse is asked now, for free, rather than met after the model is loaded.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from poise import progress
from poise.batch.kernels import choose_kernel
from poise.errors import ModelError
from poise.preflight.finding import Finding
from poise.preflight.known import Known
from poise.preflight.machine import this_machine
from poise.preflight.model import ModelFacts, model_facts
from poise.preflight.preflight import preflight
from poise.recipe import Recipe
from poise.run import Run
from poise.train.arguments import training_arguments
from poise.train.assemble import hardware_of
from poise.train.forecast import remembered
from poise.train.model import Hardware
from poise.train.optimizer import choose_optimizer
from poise.train.prepare import Prepared, rows_per_step
from poise.train.quantize import is_quantized, quantization_config

Refusal = tuple[str, str]
"""(code, message)."""


def examine(recipe: Recipe, prepared: Prepared, *, processes: int = 1, rows_sha256: str | None = None) -> list[Finding]:
    """Run every check."""
    return preflight(known(recipe, prepared, processes=processes, rows_sha256=rows_sha256))


def known(recipe: Recipe, prepared: Prepared, *, processes: int = 1, rows_sha256: str | None = None) -> Known:
    """Gather what the checks look at."""
    forecast = remembered(recipe, rows_sha256) if rows_sha256 else None
    return replace(
        known_without_rows(recipe),
        train=prepared.loaded.train,
        held_out=prepared.loaded.held_out,
        rows=prepared.rendered.train,
        held_out_rows=prepared.rendered.held_out,
        drops=prepared.drops,
        lengths=prepared.rendered.lengths,
        rows_in=prepared.loaded.rows_in.total(),
        scale=prepared.scale,
        tokenizer=prepared.tokenizer,
        rows_per_step=rows_per_step(recipe) * processes,
        steps=prepared.optimizer_steps(recipe, processes),
        forecast_memory_bytes=forecast.peak_memory_bytes if forecast else None,
    )


def known_without_rows(recipe: Recipe) -> Known:
    """Gather what is known where the rows cannot be had."""
    facts = _facts(recipe)
    hardware, refusals = _hardware(recipe)
    if hardware is None:
        return Known(recipe, model=facts, refusals=refusals)
    machine = this_machine(hardware.device.type, _output_dir(recipe))
    return Known(recipe, model=facts, machine=machine, refusals=[*_refused(recipe, hardware, facts)])


def tell(findings: Sequence[Finding], ignored: Sequence[str]) -> None:
    """Say warnings and notes, each once; errors are said by what they raise."""
    for finding in findings:
        if finding.severity != "error" and finding.code not in ignored:
            progress.say(str(finding))


def recorded(findings: Sequence[Finding], ignored: Sequence[str]) -> dict[str, Any]:
    """Return what the manifest keeps: every finding, and the warnings as the report shows them."""
    shown = [finding for finding in findings if finding.code not in ignored]
    return {
        "preflight": [finding.to_json() | {"ignored": finding.code in ignored} for finding in findings],
        "warnings": [f"{each.code}: {each.what}; {each.to_do()}" for each in shown if each.severity == "warning"],
    }


def _facts(recipe: Recipe) -> ModelFacts | None:
    """Build the model's shape; where that fails, loading will say why."""
    try:
        return model_facts(recipe.model.model_name_or_path, recipe.model.model_revision)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, ModelError):
        return None


def _hardware(recipe: Recipe) -> tuple[Hardware | None, list[Refusal]]:
    try:
        return hardware_of(recipe), []
    except ModelError as error:
        return None, [("E501", str(error))]


def _refused(recipe: Recipe, hardware: Hardware, facts: ModelFacts | None) -> Iterator[Refusal]:
    yield from _device_refusals(recipe, hardware)
    if facts is not None:
        _, replaced = choose_kernel(recipe.model.attn_implementation, hardware.device, hardware.products, facts.config)
        if replaced:
            yield "N504", replaced
    yield from _argument_refusals(recipe, hardware)


def _device_refusals(recipe: Recipe, hardware: Hardware) -> Iterator[Refusal]:
    asked: list[Callable[[], object]] = [lambda: choose_optimizer(recipe.training["optim"], hardware.device)]
    if is_quantized(recipe.model):
        asked.append(lambda: quantization_config(recipe.model, hardware))
    for ask in asked:
        try:
            ask()
        except ModelError as error:
            yield "E501", str(error)


def _argument_refusals(recipe: Recipe, hardware: Hardware) -> Iterator[Refusal]:
    """Build transformers' arguments and the schedule as training would, and throw both away."""
    from transformers import get_scheduler

    try:
        arguments = training_arguments(recipe, Run(_output_dir(recipe)), hardware)
        weight = torch.nn.Parameter(torch.zeros(1))
        get_scheduler(
            arguments.lr_scheduler_type,
            torch.optim.SGD([weight], lr=arguments.learning_rate),
            num_warmup_steps=1,
            num_training_steps=10,
            scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,  # pyright: ignore[reportArgumentType]
        )
    except (ValueError, TypeError, ImportError) as error:
        yield "E108", " ".join(str(error).split())


def _output_dir(recipe: Recipe) -> Path:
    return Path(str(recipe.training["output_dir"]))
