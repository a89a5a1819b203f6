"""What a run computes, known before it starts: the micro-batches of every step, and the arithmetic of each.

A forward pass over rows costs, in floating-point operations of a decoder with P weights in its layers, width d and L
layers (Kaplan et al. 2020, arXiv:2001.08361, section 2.1; the vocabulary projection runs on trained tokens alone),

    2 P tokens + 4 d L products + 2 d V trained

where `products` are query-key pairs. Backward costs the same twice where weights are trained, once through frozen ones.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from poise.batch.pack import pack
from poise.batch.row import Row
from poise.batch.score import Scorer, Way
from poise.recipe import Recipe

STEPS_LAID_OUT = 5_000
"""Steps whose micro-batches are worked out; those of a longer run are like them."""


@dataclass(frozen=True)
class Work:
    """What a forward pass over rows is made of; adds up over rows."""

    tokens: int = 0
    """Through every layer."""
    keys: int = 0
    """Read by attention: each piece's own tokens and those it continues."""
    products: int = 0
    """Query-key pairs."""
    trained: int = 0
    """Tokens through the vocabulary projection."""
    pieces: int = 0
    """Calls of attention in each layer."""

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.tokens + other.tokens,
            self.keys + other.keys,
            self.products + other.products,
            self.trained + other.trained,
            self.pieces + other.pieces,
        )


def work_of(rows: Iterable[Row], way: Way) -> Work:
    """Count what rows come to when their sequences are computed in this way."""
    return sum((_row_work(row, way) for row in rows), Work())


def _row_work(row: Row, way: Way) -> Work:
    if way == "shared":
        depths: list[int] = []
        for segment in row.segments:
            parent = segment.parent
            depths.append(depths[parent] + len(row.segments[parent]) if parent >= 0 else 0)
        pieces = [(len(segment), depth) for segment, depth in zip(row.segments, depths, strict=True)]
    else:
        pieces = [(length, 0) for length in row.sequence_lengths()]
    return Work(
        tokens=sum(length for length, _ in pieces),
        keys=sum(length + depth for length, depth in pieces),
        products=sum(length * depth + length * (length + 1) // 2 for length, depth in pieces),
        trained=row.trained_tokens,
        pieces=len(pieces),
    )


@dataclass(frozen=True)
class Price:
    """Floating-point operations of each kind of work, for one model and one kind of pass."""

    token: float
    product: float
    trained: float

    def of(self, work: Work) -> float:
        """Return the operations that work comes to."""
        return self.token * work.tokens + self.product * work.products + self.trained * work.trained


def forward_price(model: Any) -> Price:
    """Price a forward pass of a causal language model."""
    config = model.config.get_text_config()
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    embedded = {id(getattr(each, "weight", None)) for each in ends}
    layers = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in embedded)
    width = config.hidden_size
    return Price(
        token=2.0 * layers,
        product=4.0 * width * config.num_hidden_layers,
        trained=2.0 * width * config.vocab_size,
    )


def training_price(model: Any, *, checkpointing: bool = False) -> Price:
    """Price forward and backward together; fused attention computes its scores once more in the backward pass."""
    forward = forward_price(model)
    frozen = any(not parameter.requires_grad for parameter in model.parameters())
    head = getattr(model.get_output_embeddings(), "weight", None)
    again = 1.0 if checkpointing else 0.0
    return Price(
        token=forward.token * ((2 if frozen else 3) + again),
        product=forward.product * (3.5 + again),
        trained=forward.trained * (4 if head is None or head.requires_grad else 2),
    )


@dataclass(frozen=True)
class Layout:
    """The micro-batches of a run's optimizer steps."""

    groups: list[list[Row]]
    """Of the steps that were laid out, in the order of training."""
    steps: int
    """Steps laid out."""

    @property
    def per_step(self) -> float:
        """Micro-batches of a step, on average."""
        return len(self.groups) / self.steps


def lay_out(recipe: Recipe, rows: Sequence[Row], rows_per_step: int, steps: int, scorer: Scorer, tokens: int) -> Layout:
    """Cut the run's steps as the trainer will, in the order its sampler will draw."""
    groups: list[list[Row]] = []
    laid_out = 0
    for step in step_rows(recipe, rows, rows_per_step):
        if laid_out == min(steps, STEPS_LAID_OUT):
            break
        groups += pack(step, tokens, scorer.tokens)
        laid_out += 1
    return Layout(groups, laid_out)


def step_rows(recipe: Recipe, rows: Sequence[Row], rows_per_step: int) -> Iterator[list[Row]]:
    """Yield the rows of each step, epoch after epoch without end, as accelerate's seeded sampler draws them."""
    training = recipe.training
    seed = training.get("data_seed")
    in_order = training.get("train_sampling_strategy") == "sequential"
    epoch = 0
    while True:
        chance = torch.Generator().manual_seed((int(training["seed"]) if seed is None else int(seed)) + epoch)
        order = range(len(rows)) if in_order else torch.randperm(len(rows), generator=chance).tolist()
        drawn = [rows[index] for index in order]
        whole = len(rows) - len(rows) % rows_per_step if training.get("dataloader_drop_last") else len(rows)
        yield from (drawn[start : start + rows_per_step] for start in range(0, whole or len(rows), rows_per_step))
        epoch += 1
