"""From a recipe to a model that is ready to be trained: hardware, weights, adapter, dropout, checkpointing, a check."""

import json
from dataclasses import dataclass
from pathlib import Path

from transformers import set_seed

from poise.batch.kernels import choose_kernel
from poise.batch.score import Scorer
from poise.batch.tokens import PreparedTokenizer
from poise.recipe import Recipe
from poise.train.allocator import keep_freed_memory
from poise.train.check import check_sharing
from poise.train.continuation import load_policy
from poise.train.data import Rendered
from poise.train.lora import speed_up_lora
from poise.train.model import Hardware, choose_hardware, disable_dropout
from poise.train.optimizer import choose_optimizer

MICRO_BATCH_TOKENS = {"cpu": 1024, "mps": 8192, "cuda": 16384}
"""Tokens of one forward pass where the recipe does not say: products are efficient and memory stays small. On the CPU
512 to 4096 take the same time, and memory grows by a fifth with each doubling."""


@dataclass(frozen=True)
class Assembled:
    """A model as a recipe wants it trained, on its device."""

    scorer: Scorer
    hardware: Hardware
    policy_sha256: str
    """Hash of the weights training starts from."""
    base_sha256: str
    """Hash of those under the adapter as stored on disk; empty without one."""
    notes: tuple[str, ...]
    """What was adjusted to the hardware or to an adapter that is there, a sentence each."""
    checked: str
    """What the check of prefix sharing found, as a sentence."""
    micro_batch_tokens: int


def assemble(recipe: Recipe, tokenizer: PreparedTokenizer, rendered: Rendered) -> Assembled:
    """Load the model, attach what is trained, and score the first rows both ways."""
    hardware = hardware_of(recipe)
    set_seed(int(recipe.training["seed"]))
    policy = load_policy(recipe.model, hardware, tokenizer, Path(recipe.training["output_dir"]) / "base")
    scorer = Scorer(
        policy.model,
        router_aux_loss_coef=recipe.poise.router_aux_loss_coef,
        neftune_noise_alpha=recipe.training.get("neftune_noise_alpha"),
    )
    _settle(recipe, scorer)
    keep_freed_memory(hardware.device)
    speed_up_lora(scorer)
    scorer.kernel, replaced = choose_kernel(
        recipe.model.attn_implementation, hardware.device, hardware.products, scorer.config
    )
    checked = check_sharing(scorer, rendered.train, hardware, recipe.poise.prefix_sharing)
    budget = recipe.poise.tokens_per_micro_batch or MICRO_BATCH_TOKENS[hardware.device.type]
    optimizer = choose_optimizer(recipe.training["optim"], hardware.device)
    notes = (*policy.notes, *(note for note in (optimizer.note, replaced) if note))
    return Assembled(scorer, hardware, policy.sha256, policy.base_sha256, notes, checked, budget)


def hardware_of(recipe: Recipe) -> Hardware:
    """Leave bfloat16 to the hardware where the recipe does not say."""
    said = recipe.origins["bf16"].kind != "default"
    bf16 = bool(recipe.training["bf16"]) if said else None
    return choose_hardware(recipe.model, bf16=bf16, use_cpu=bool(recipe.training.get("use_cpu")))


def _settle(recipe: Recipe, scorer: Scorer) -> None:
    """Apply dropout and activation checkpointing as the recipe says."""
    no_dropout = recipe.model.disable_dropout
    if recipe.objective.unit != "tokens" if no_dropout is None else no_dropout:
        disable_dropout(scorer)
    if recipe.training.get("activation_checkpointing"):
        said = recipe.training.get("activation_checkpointing_kwargs") or {}
        options = {"use_reentrant": False, **(json.loads(said) if isinstance(said, str) else said)}
        scorer.causal_lm.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
        if options["use_reentrant"]:  # it sends gradients on only where an input has them, which embeddings may not
            scorer.causal_lm.enable_input_require_grads()
