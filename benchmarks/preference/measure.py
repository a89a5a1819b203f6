"""What a training step needs, what the machine can, and what a process takes: FLOPs, product rate, seconds, memory.

Share of the machine's own matrix-product rate = useful FLOPs of the optimizer steps / their seconds / rate.

Useful FLOPs are those of the shared layout, whatever an arm computes. With N tokens computed once each, M trained
tokens, A pairs of (query, key) that attention allows, L layers of width D, V words, and a product of (N, i) with
(i, o) counted as 2 N i o:

    every linear i -> o       2 N i o  for the output, 2 N i o for the input's gradient, 2 N i o for the weight's
      frozen (LoRA)           no weight gradient; query, key and value of the first layer no input gradient either
      adapter of rank r       6 N r (i + o), less 2 N r i where the input needs no gradient
    attention, each layer     4 A D forward (scores, values), 8 A D backward
    vocabulary projection     2 M D V, 2 M D V for its input's gradient, 2 M D V for its weight's where that is trained

The reference pass, the optimizer's arithmetic and anything computed twice count as nothing. The rate is that of bare
products at the model's shapes: for every linear the output, the input's and the weight's gradient at the tokens of a
mean micro-batch, the projection at its trained tokens; FLOPs over seconds, each product weighing what it costs.
"""

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RANK = 16
REPEATS = 5
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class Layout:
    """What rows cost, as poise lays them out."""

    tokens: int
    """Computed, a shared prompt once."""
    trained: int
    attended: int
    """Pairs of a query and a key it may see."""

    @classmethod
    def of(cls, lengths: Sequence[int], ancestors: Sequence[tuple[int, ...]], trained: int) -> "Layout":
        """Count a Batch's layout: a segment sees its ancestors whole and itself causally."""
        attended = sum(
            length * sum(lengths[index] for index in above) + length * (length + 1) // 2
            for length, above in zip(lengths, ancestors, strict=True)
        )
        return cls(sum(lengths), trained, attended)

    def __add__(self, other: "Layout") -> "Layout":
        """Lay two side by side."""
        return Layout(self.tokens + other.tokens, self.trained + other.trained, self.attended + other.attended)


@dataclass(frozen=True)
class Work:
    """An epoch's rows, and the mean micro-batch they are cut into."""

    layout: Layout
    micro_batches: int

    def as_json(self) -> dict[str, int]:
        """Flatten it."""
        return asdict(self.layout) | {"micro_batches": self.micro_batches}

    @classmethod
    def from_json(cls, found: dict[str, int]) -> "Work":
        """Read what as_json wrote."""
        return cls(Layout(found["tokens"], found["trained"], found["attended"]), found["micro_batches"])


def work_of(rows: Sequence[Layout], batch: int, budget: int) -> Work:
    """Sum an epoch's rows, each step of `batch` of them cut into as few micro-batches as `budget` tokens allow."""
    steps = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    micro_batches = sum(-(-sum(row.tokens for row in step) // budget) for step in steps)
    return Work(sum(rows, Layout(0, 0, 0)), micro_batches)


@dataclass(frozen=True)
class Linear:
    """The linear layers of one shape in a whole model."""

    inputs: int
    outputs: int
    count: int
    first: int = 0
    """How many of them read the embeddings."""


def linears(sizes: dict[str, Any]) -> list[Linear]:
    """List a Llama's linear layers, the vocabulary projection left out."""
    width, inner, layers = sizes["hidden_size"], sizes["intermediate_size"], sizes["num_hidden_layers"]
    heads = sizes["num_attention_heads"]
    keys = width // heads * sizes.get("num_key_value_heads", heads)
    return [
        Linear(width, width, layers, 1),
        Linear(width, keys, 2 * layers, 2),
        Linear(width, width, layers),
        Linear(width, inner, 2 * layers),
        Linear(inner, width, layers),
    ]


def useful_flops(sizes: dict[str, Any], layout: Layout, tuning: str) -> int:
    """FLOPs that forward and backward of these rows need; the formula stands at the top of this file."""
    width, layers, tokens = sizes["hidden_size"], sizes["num_hidden_layers"], layout.tokens
    full = tuning == "full"
    total = 12 * layout.attended * width * layers
    total += (6 if full else 4) * layout.trained * width * sizes["vocab_size"]
    for linear in linears(sizes):
        product = 2 * tokens * linear.inputs * linear.outputs
        if full:
            total += 3 * product * linear.count
            continue
        total += 2 * product * linear.count - product * linear.first
        total += 6 * tokens * RANK * (linear.inputs + linear.outputs) * linear.count
        total -= 2 * tokens * RANK * linear.inputs * linear.first
    return total


def product_rate(sizes: dict[str, Any], work: Work, dtype: str, device: str) -> float:
    """Measure FLOP/s of bare products at the model's shapes; see the top of this file."""
    tokens = max(round(work.layout.tokens / work.micro_batches), 1)
    trained = max(round(work.layout.trained / work.micro_batches), 1)
    shapes = [(tokens, each.inputs, each.outputs, each.count) for each in linears(sizes)]
    shapes.append((trained, sizes["hidden_size"], sizes["vocab_size"], 1))
    seconds: dict[tuple[int, int, int], float] = {}
    for rows, inputs, outputs, _ in shapes:
        if (rows, inputs, outputs) not in seconds:
            seconds[rows, inputs, outputs] = _three_products(rows, inputs, outputs, dtype, device)
    flops = sum(6 * rows * inputs * outputs * count for rows, inputs, outputs, count in shapes)
    return flops / sum(seconds[rows, inputs, outputs] * count for rows, inputs, outputs, count in shapes)


def _three_products(rows: int, inputs: int, outputs: int, dtype: str, device: str) -> float:
    """Seconds of output, input gradient and weight gradient of one linear layer, each the median of five."""
    import torch

    kind = getattr(torch, dtype)
    x = torch.randn(rows, inputs, dtype=kind, device=device)
    weight = torch.randn(outputs, inputs, dtype=kind, device=device)
    gradient = torch.randn(rows, outputs, dtype=kind, device=device)
    products = (lambda: x @ weight.T, lambda: gradient @ weight, lambda: gradient.T @ x)
    return sum(_median_seconds(product, device) for product in products)


def _median_seconds(product: Callable[[], Any], device: str) -> float:
    times: list[float] = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        product()
        finish(device)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[REPEATS // 2]


def finish(device: str) -> None:
    """Wait for what was given to the device."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


class Steps:
    """Seconds from the start of the loop to the end of each optimizer update, by torch's own hook on optimizers."""

    def __init__(self, device: str) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self._device = device
        self._begun = self._ended = 0.0
        self.count = 0
        register_optimizer_step_post_hook(self._updated)

    def begin(self) -> None:
        """Note that the model is ready and the first step comes."""
        finish(self._device)
        self._begun = time.perf_counter()

    def _updated(self, *_: Any) -> None:
        finish(self._device)
        self.count += 1
        self._ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of all steps together: batches, forward, backward, clipping, update."""
        return self._ended - self._begun


def resident_bytes(device: str) -> int:
    """Memory the process holds now; on CUDA what torch holds there."""
    if device == "cuda":
        import torch

        return torch.cuda.memory_allocated()
    import psutil

    return psutil.Process().memory_info().rss


def forget_peak(device: str) -> None:
    """Let the peak begin at what is held now, so that measuring the rate is no part of it; Linux and CUDA know how."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    elif CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5")


def peak_bytes(device: str) -> int:
    """Return the most memory the process held since then, on CUDA what torch held there.

    On Linux VmHWM, which is ru_maxrss without what the parent held when it started this process.
    """
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    if STATUS.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())
        if found:
            return int(found[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
