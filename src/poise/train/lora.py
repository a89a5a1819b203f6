"""LoRA layers in fewer products: the same function, without passes over (tokens, out) beside them.

    y = x W' + b,   W' = W + s B A        (Hu et al. 2021, arXiv:2106.09685, equation 3)

peft computes x W, then (x A) B, scales and adds. In float32 W' is formed first, which costs as much as r tokens do, and
the layer is one product each way; dA and dB need four thin ones. Where W' cannot stand in (16-bit products would round
the adapter away; dropout; quantized weights, or several adapters) the thin products are added into x W in place.
Nothing of a model is replaced but the `forward` of peft's own LoRA layers, and only while they compute plain LoRA.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Forward = Callable[..., Tensor]
MERGE_FROM_TOKENS = 64
"""Below this, forming W' costs more than it saves."""


def speed_up_lora(model: nn.Module) -> int:
    """Let the LoRA layers of a peft model compute as described above; returns how many there are."""
    from peft.tuners.lora import Linear

    found = 0
    for module in model.modules():
        if isinstance(module, Linear) and not isinstance(module.forward, _Fast):
            module.forward = _Fast(cast(Any, module), cast(Forward, module.forward))
            found += 1
    return found


class _Fast:
    """The forward of one LoRA layer; the usual one where something other than plain LoRA is asked for."""

    def __init__(self, layer: Any, usual: Forward) -> None:
        self.layer, self.usual = layer, usual

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        layer = self.layer
        active = [name for name in layer.active_adapters if name in layer.lora_A]
        plain = not (args or kwargs or layer.disable_adapters or layer.merged)
        if not plain or not all(self._is_plain(name) for name in active):
            return self.usual(x, *args, **kwargs)
        if len(active) == 1 and self._merges(x, active[0]):
            return self._merged(x, active[0])
        return self._added(x, active)

    def _merged(self, x: Tensor, name: str) -> Tensor:
        layer, base = self.layer, self.layer.base_layer
        lora_a, lora_b = layer.lora_A[name].weight, layer.lora_B[name].weight
        return cast(Tensor, _Merged.apply(x, base.weight, base.bias, lora_a, lora_b, layer.scaling[name]))

    def _added(self, x: Tensor, active: list[str]) -> Tensor:
        layer = self.layer
        result = layer.base_layer(x)
        flat = result.reshape(-1, result.shape[-1])
        for name in active:
            thin = layer.lora_A[name](layer.lora_dropout[name](x.to(layer.lora_A[name].weight.dtype)))
            thin, lora_b = thin.reshape(len(flat), -1).to(flat.dtype), layer.lora_B[name].weight.to(flat.dtype)
            flat = torch.addmm(flat, thin, lora_b.T, alpha=layer.scaling[name])
        return flat.view(result.shape)

    def _is_plain(self, name: str) -> bool:
        layer = self.layer
        return name not in layer.lora_variant and layer.lora_A[name].bias is None and layer.lora_B[name].bias is None

    def _merges(self, x: Tensor, name: str) -> bool:
        """Whether W' stands in for W exactly: nothing is dropped, rounded or trained in W."""
        base, dropout = self.layer.base_layer, self.layer.lora_dropout[name]
        frozen = not any(parameter.requires_grad for parameter in base.parameters())
        drops = isinstance(dropout, nn.Dropout) and dropout.p > 0 and dropout.training
        return (
            type(base) is nn.Linear
            and x.dtype in (torch.float32, torch.float64)
            and x.dtype == base.weight.dtype == self.layer.lora_A[name].weight.dtype
            and not torch.is_autocast_enabled(x.device.type)
            and frozen
            and not drops
            and x[..., 0].numel() >= MERGE_FROM_TOKENS
        )


class _Merged(torch.autograd.Function):
    """One product each way; W' is formed again for the way back, so that nothing of its size is kept."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, lora_a: Tensor, lora_b: Tensor, scaling: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, lora_a, lora_b)
        ctx.scaling = scaling
        return F.linear(x, torch.addmm(weight, lora_b, lora_a, alpha=scaling), bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, lora_a, lora_b = ctx.saved_tensors
        gradient = grad_outputs[0].reshape(-1, weight.shape[0])
        flat = x.reshape(-1, weight.shape[1])
        to_x = to_a = to_b = None
        if ctx.needs_input_grad[0]:
            to_x = (gradient @ torch.addmm(weight, lora_b, lora_a, alpha=ctx.scaling)).view(x.shape)
        if ctx.needs_input_grad[3]:
            to_a = ((gradient @ lora_b).T @ flat).mul_(ctx.scaling)
        if ctx.needs_input_grad[4]:
            to_b = (gradient.T @ (flat @ lora_a.T)).mul_(ctx.scaling)
        return to_x, None, None, to_a, to_b, None
