"""Bytes that a checkpoint takes: weights, and the optimizer's state beside them."""

from typing import Any

import torch


def weight_bytes(model: Any) -> int:
    """Return the size of what is saved of a model: all weights, or those of an adapter."""
    from peft import PeftModel

    adapted = isinstance(model, PeftModel)
    return sum(each.numel() * each.element_size() for each in model.parameters() if each.requires_grad or not adapted)


def state_bytes(optimizer: Any) -> int:
    """Return the size of an optimizer's state as it stands."""
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in (state.values() if isinstance(state, dict) else ())
        if isinstance(value, torch.Tensor)
    )
