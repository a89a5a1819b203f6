"""Weights divided over processes: gathered to be saved, the optimizer's state too, and given back on resume.

FSDP2 turns parameters into DTensors whose parts lie in different processes (torch's `fully_shard`); DeepSpeed's ZeRO-3
keeps parts of its own. What is written is whole either way, so that a checkpoint does not depend on how many processes
wrote it.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch

from poise.batch.row import Row
from poise.errors import DivergenceError
from poise.train.layout import layout_here
from poise.train.processes import NOTHING, highest, is_main

PREFIX = "model."
"""Where a Scorer keeps the model whose weights are saved."""


def divide_as_asked(accelerator: Any) -> None:
    """Let accelerate divide weights on the CPU too, and keep log-probabilities and gradients in float32.

    accelerate 1.15 would train on CPUs without dividing anything, although it was told to: it looks for FSDP on
    accelerators alone. Its policy for bfloat16 would also round what the model returns, here log-probabilities.
    """
    from accelerate import PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    state = accelerator.state
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
        state.fsdp_plugin = FullyShardedDataParallelPlugin()
    plugin = getattr(state, "fsdp_plugin", None)
    if plugin is not None and accelerator.mixed_precision == "bf16":
        from torch.distributed.fsdp import MixedPrecisionPolicy

        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def layout_name(scorer: Any) -> str:
    """Name the layout that weights were trained in, from the weights themselves where FSDP2 divided them."""
    from torch.distributed.tensor import DTensor

    divided = any(isinstance(parameter, DTensor) for parameter in scorer.parameters())
    said = layout_here()
    if divided != (said.kind == "fsdp"):
        raise DivergenceError(
            f"{said.name} was asked for, but weights were {'' if divided else 'not '}divided over the processes"
        )
    return said.name


def gathered_weights(scorer: Any, *, trained_alone: bool) -> dict[str, Any]:
    """Collect whole weights on the CPU of the main process, by their names in the model; the others get none.

    All processes take part. `trained_alone` leaves out what is frozen under an adapter.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_alone)
    state = get_model_state_dict(scorer, options=options)
    return without_prefix(_tied(state, scorer)) if is_main() else {}


def _tied(state: dict[str, Any], scorer: Any) -> dict[str, Any]:
    """Let names of one parameter share one tensor again, so that it is saved once."""
    first = {id(parameter): name for name, parameter in scorer.named_parameters()}
    same = {name: first[id(parameter)] for name, parameter in scorer.named_parameters(remove_duplicate=False)}
    return {name: state.get(same.get(name, name), value) for name, value in state.items()}


def without_prefix(state: dict[str, Any]) -> dict[str, Any]:
    """Name weights as the model inside a Scorer does."""
    return {name.removeprefix(PREFIX): value for name, value in state.items()}


def gathered_optimizer(scorer: Any, optimizer: Any) -> dict[str, Any]:
    """Collect the optimizer's whole state on the CPU of the main process, by parameter names."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_optimizer_state_dict(scorer, _inner(optimizer), options=options)


def give_optimizer(scorer: Any, optimizer: Any, state: dict[str, Any]) -> None:
    """Give every process its part of a state that `gathered_optimizer` collected; the main one alone needs it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_optimizer_state_dict(scorer, _inner(optimizer), state, options=options)


def evened(groups: Sequence[Sequence[Row]], device: torch.device) -> list[Sequence[Row]]:
    """Give all processes as many micro-batches: each pass exchanges weights, so that all must take part in it."""
    return [*groups, *[[NOTHING]] * (highest(len(groups), device) - len(groups))]


def _inner(optimizer: Any) -> Any:
    """Return the optimizer that accelerate wrapped."""
    return getattr(optimizer, "optimizer", optimizer)
