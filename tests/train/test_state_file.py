"""An optimizer's, a schedule's or a generator's state comes back equal and of the same types, without a pickle."""

import random
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poise.train.state_file import load_state, save_state

OPTIMIZERS: dict[str, Any] = {
    "adamw": lambda weights: torch.optim.AdamW(weights, foreach=False),
    "adamw, fused": lambda weights: torch.optim.AdamW(weights, fused=True),
    "adafactor": lambda weights: torch.optim.Adafactor(weights),
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
}


def stepped(make: Any) -> tuple[Any, list[torch.Tensor]]:
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(8, 4)), torch.nn.Parameter(torch.randn(4))]
    optimizer = make(weights)
    for _ in range(3):
        step(optimizer, weights)
    return optimizer, weights


def step(optimizer: Any, weights: list[Any]) -> None:
    for weight in weights:
        weight.grad = weight.detach() * 0.5 + 1
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(name: str, tmp_path: Path) -> None:
    goes_on, weights = stepped(OPTIMIZERS[name])
    save_state(tmp_path / "optimizer", goes_on.state_dict())
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    restored = OPTIMIZERS[name](copies)
    restored.load_state_dict(load_state(tmp_path / "optimizer"))
    for _ in range(2):
        step(goes_on, weights)
        step(restored, copies)
    assert all(map(torch.equal, weights, copies))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_an_eight_bit_optimizer_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")

    def make(weights: Any) -> Any:
        return bitsandbytes.optim.AdamW8bit(weights, min_8bit_size=1)

    goes_on, weights = stepped(make)
    save_state(tmp_path / "optimizer", goes_on.state_dict())
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    restored = make(copies)
    restored.load_state_dict(load_state(tmp_path / "optimizer"))
    step(goes_on, weights)
    step(restored, copies)
    assert all(map(torch.equal, weights, copies))


def test_random_numbers_go_on(tmp_path: Path) -> None:
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    drawn = (random.random(), np.random.rand(), torch.rand(1))
    save_state(tmp_path / "random", state)
    back = load_state(tmp_path / "random")
    random.setstate(back["python"])
    np.random.set_state(back["numpy"])
    torch.set_rng_state(back["torch"])
    assert (random.random(), np.random.rand(), torch.rand(1)) == drawn


def test_every_kind_of_value_comes_back_as_it_was(tmp_path: Path) -> None:
    shared = torch.arange(3)
    state = {
        0: (1, 2.5, None, True), "~odd": {"a", "b"}, "queue": deque([1, 2]), "type": torch.bfloat16,
        "inf": float("inf"), "tensors": [shared, shared, torch.ones(4)[1:3], torch.zeros(2, dtype=torch.bfloat16)],
    }  # fmt: skip
    save_state(tmp_path / "state", state)
    back = load_state(tmp_path / "state")
    tensors = back.pop("tensors")
    assert all(map(torch.equal, tensors, state.pop("tensors")))
    assert back == state


def test_what_cannot_be_kept_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\.deep\[1\] is a module"):
        save_state(tmp_path / "state", {"deep": [1, np]})
