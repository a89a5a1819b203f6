"""LoRA layers compute what peft's own forward computes: values, and gradients of the adapter and of the input."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from poise.train.lora import speed_up_lora


class Two(nn.Module):
    """Two layers, one with a bias, so that a gradient has to pass through a LoRA layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 40), nn.Linear(40, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


def adapted(dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    torch.manual_seed(0)
    keys: dict[str, Any] = {"r": 4, "lora_alpha": 12, "target_modules": ["first", "second"], "init_lora_weights": False}
    return get_peft_model(Two().to(dtype), LoraConfig(**keys | options)).to(dtype)


def values_and_gradients(model: Any, x: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(1)
    x = x.clone().requires_grad_()
    output = model(x)
    (output.double() * torch.linspace(-1, 2, output.numel()).view(output.shape)).sum().backward()
    assert x.grad is not None
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return {"output": output.detach(), "input": x.grad, **gradients}


def both_ways(model: Any, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    usual, fast = copy.deepcopy(model), copy.deepcopy(model)
    assert speed_up_lora(fast) == 2
    return values_and_gradients(usual, x), values_and_gradients(fast, x)


@pytest.mark.parametrize("shape", [(1, 200, 24), (3, 40, 24), (1, 7, 24), (90, 24)])
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"lora_dropout": 0.5}, {"use_dora": True}])
def test_values_and_gradients_are_those_of_peft(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Both sides of the 64 tokens from which W' is formed; with dropout both draw the same numbers."""
    usual, fast = both_ways(adapted(**options), torch.randn(shape, dtype=torch.float64))
    assert usual.keys() == fast.keys() and len(usual) >= 6
    for name, expected in usual.items():
        torch.testing.assert_close(fast[name], expected, rtol=1e-10, atol=1e-12)


def test_in_float32_the_difference_is_rounding() -> None:
    usual, fast = both_ways(adapted(torch.float32), torch.randn(1, 200, 24))
    for name, expected in usual.items():
        assert (fast[name] - expected).norm() < 1e-6 * expected.norm(), name


def test_under_autocast_the_adapter_is_not_rounded_away() -> None:
    """An adapter of a thousandth of the weights moves the output by as much as it does in float32."""
    model = adapted(torch.float32)
    for name, each in model.named_parameters():
        if "lora_B" in name:
            each.data *= 1e-3
    speed_up_lora(model)
    x = torch.randn(1, 200, 24)
    exact = values_and_gradients(model, x)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = values_and_gradients(model, x)
    for name in ("base_model.model.second.lora_A.default.weight", "base_model.model.second.lora_B.default.weight"):
        assert (rounded[name] - exact[name]).norm() < 0.02 * exact[name].norm()


def with_second_adapter(model: Any) -> None:
    model.add_adapter("other", LoraConfig(r=2, target_modules=["first"], init_lora_weights=False))
    model.to(torch.float64)
    model.base_model.set_adapter(["default", "other"])


def disabled(model: Any) -> None:
    model.base_model.disable_adapter_layers()


def merged(model: Any) -> None:
    model.merge_adapter()


@pytest.mark.parametrize("state", [with_second_adapter, disabled, merged])
def test_other_states_are_left_to_peft_or_equal_it(state: Callable[[Any], None]) -> None:
    model = adapted()
    state(model)
    x = torch.randn(1, 100, 24, dtype=torch.float64)
    expected = model(x)
    speed_up_lora(model)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)


def test_without_gradient_and_twice_nothing_changes() -> None:
    model = adapted()
    x = torch.randn(1, 100, 24, dtype=torch.float64)
    expected = model(x)
    assert (speed_up_lora(model), speed_up_lora(model)) == (2, 0)
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)


def test_a_trained_base_layer_gets_its_gradient() -> None:
    model = adapted()
    for name, each in model.named_parameters():
        if "second.base_layer" in name:
            each.requires_grad_(True)
    usual, fast = both_ways(model, torch.randn(1, 100, 24, dtype=torch.float64))
    name = "base_model.model.second.base_layer.weight"
    torch.testing.assert_close(fast[name], usual[name], rtol=1e-10, atol=1e-12)
