"""FLOPs by formula against torch's own counter over a real forward and backward pass."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from preference.measure import Layout, Work, product_rate, useful_flops, work_of
from preference.prepare import LORA

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 40,
}  # fmt: skip
TOKENS = 12

# peft 0.21 asks the model for what transformers 5.23 renamed
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning")


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_flops_are_those_that_torch_counts(tuning: str) -> None:
    """Eager attention computes the whole square, so `attended` is that here."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    model.set_attn_implementation("eager")
    if tuning == "lora":
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **LORA))
    with FlopCounterMode(display=False) as counter:
        model(torch.arange(TOKENS)[None], use_cache=False).logits.sum().backward()
    assert counter.get_total_flops() == useful_flops(SIZES, Layout(TOKENS, TOKENS, TOKENS**2), tuning)


def test_a_segment_attends_to_its_ancestors_and_causally_to_itself() -> None:
    # prompt 3: 1 + 2 + 3; chosen 2: 2 * 3 + 1 + 2; rejected 1: 3 + 1
    assert Layout.of([3, 2, 1], [(), (0,), (0,)], 3) == Layout(tokens=6, trained=3, attended=6 + 9 + 4)


def test_a_step_is_cut_by_the_budget() -> None:
    rows = [Layout(30, 5, 0)] * 3  # steps of two rows: 60 tokens in two micro-batches of 50, then 30 in one
    assert work_of(rows, batch=2, budget=50) == Work(Layout(90, 15, 0), micro_batches=3)


def test_work_survives_json() -> None:
    work = Work(Layout(90, 15, 7), 3)
    assert Work.from_json(work.as_json()) == work


def test_the_rate_is_that_of_a_product() -> None:
    """At least a MFLOP/s, and no more than a thousand TFLOP/s, on whatever runs this."""
    assert 1e6 < product_rate(SIZES, Work(Layout(64, 32, 0), 1), "float32", "cpu") < 1e15


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak cannot be forgotten here")
def test_the_peak_is_of_what_came_after_it_was_forgotten() -> None:
    """In a process of its own, which held 200 MB before and 50 MB after."""
    program = (
        "from preference.measure import forget_peak, peak_bytes, resident_bytes\n"
        "held = bytearray(b'1') * 200_000_000\ndel held\n"
        "forget_peak('cpu')\nbefore = resident_bytes('cpu')\nheld = bytearray(b'1') * 50_000_000\n"
        "print(peak_bytes('cpu') - before)"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "benchmarks")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=here)
    assert 45_000_000 < int(done.stdout) < 60_000_000
