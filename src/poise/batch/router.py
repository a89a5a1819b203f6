"""The router loss of a mixture of experts: keep every expert busy (Switch Transformers, arXiv:2101.03961, eq. 4-6).

    f_e = tokens sent to expert e / tokens     P_e = mean probability of expert e     loss = E sum_e f_e P_e

The means run over all layers and over the tokens of one row: a conversation, a pair with its prompt, a packed row. A
token counts once for every sequence that holds it, so a shared prompt weighs what two copies of it would. transformers
takes the means over a micro-batch; a product of two means changes with the rows that meet there, and no division
afterwards mends that. Per row, 8x1 is 1x8 and shared is one by one. DeepSeek-V3 balances single sequences in this way
(arXiv:2412.19437, eq. 17-20).
"""

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from poise.batch.batch import Batch, Layout
from poise.errors import ModelError

FUNCTION = "load_balancing_loss_func"
"""What transformers calls this loss, beside every model that has it."""
PARAMETERS = ["gate_logits", "num_experts", "top_k", "attention_mask"]
"""Of that function where it computes the equations above; Doge's is another."""


@dataclass(frozen=True, eq=False)
class Routing:
    """Sums over the tokens of each row and all layers."""

    sent: Tensor
    """(rows, experts) tokens sent to each expert, by weight."""
    probability: Tensor
    """(rows, experts) probabilities of each expert, by weight; these carry the gradient."""
    tokens: Tensor
    """(rows,) weight of all tokens, once per layer."""

    @classmethod
    def joined(cls, parts: Sequence["Routing"]) -> "Routing":
        """Put the rows of several one after another."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def summed(self, counts: Sequence[int]) -> "Routing":
        """Make one row of as many rows as `counts` says of each."""
        index = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(self.tokens.device)
        sums = [getattr(self, field.name) for field in fields(self)]
        return Routing(*(each.new_zeros(len(counts), *each.shape[1:]).index_add(0, index, each) for each in sums))

    def loss(self) -> Tensor:
        """(rows,) 1 x top_k where experts are used evenly, at most the number of experts x top_k."""
        tokens = self.tokens.clamp(min=1)[:, None]
        return self.sent.shape[1] * (self.sent / tokens * (self.probability / tokens)).sum(dim=1)


@dataclass(frozen=True)
class Router:
    """The router loss of one model."""

    coefficient: float
    top_k: int
    """Experts a token is sent to."""

    def of_batch(self, logits: Sequence[Tensor], batch: Batch) -> Routing:
        """Sum up router logits, (tokens, experts) for each layer; a token weighs as many sequences as hold it.

        Answers of other rows, which only serve an estimate, weigh nothing. Tokens after those of the batch are filling.
        """
        logits = [layer[: batch.tokens] for layer in logits]
        wide = torch.float64 if logits[0].dtype == torch.float64 else torch.float32
        held = torch.tensor(sequences_through(batch.layout, batch.mismatched.tolist()), dtype=wide)
        weights = held.repeat_interleave(torch.tensor(batch.layout.lengths)).to(logits[0].device)
        rows = torch.arange(len(batch.rows)).repeat_interleave(torch.tensor([row.tokens for row in batch.rows]))
        return self._sums(logits, weights, rows.to(logits[0].device), len(batch.rows))

    def _sums(self, logits: Sequence[Tensor], weights: Tensor, rows: Tensor, count: int) -> Routing:
        experts = logits[0].shape[-1]
        sent, probability = (weights.new_zeros(count, experts) for _ in range(2))
        for layer in logits:
            shares = layer.reshape(len(rows), experts).to(weights.dtype).softmax(dim=-1)
            chosen = torch.zeros_like(shares).scatter(1, shares.topk(self.top_k, dim=-1).indices, 1.0)
            sent = sent.index_add(0, rows, chosen * weights[:, None])
            probability = probability.index_add(0, rows, shares * weights[:, None])
        return Routing(sent, probability, weights.new_zeros(count).index_add(0, rows, weights) * len(logits))


def router_of(model: Any, coefficient: float | None) -> Router | None:
    """Return what `model` adds to its loss; None where it is dense, or its config and the recipe leave this out.

    `coefficient` is the recipe's `router_aux_loss_coef`: None is as the model's config has it, 0 switches off. Raises
    ModelError where the recipe asks for a loss that this model has not, or that is another than the equations above.
    """
    config = model.config.get_text_config()
    wanted = getattr(config, "output_router_logits", False) if coefficient is None else coefficient > 0
    function = getattr(sys.modules[type(model).__module__], FUNCTION, None)
    if not wanted or (function is None and coefficient is None):
        return None
    if function is None or list(inspect.signature(function).parameters) != PARAMETERS:
        missing = (
            "is no mixture of experts with a router loss" if function is None else "balances its experts otherwise"
        )
        raise ModelError(
            f"router_aux_loss_coef: {config.model_type} {missing}\n"
            "    why:    there is nothing here that the coefficient could weigh\n"
            "    to do:  remove router_aux_loss_coef, or set it to 0"
        )
    own = getattr(config, "router_aux_loss_coef", None) or getattr(config, "aux_loss_coef", 0.0)
    weight = float(own if coefficient is None else coefficient)
    return Router(weight, int(model.num_experts_per_tok)) if weight else None


def sequences_through(layout: Layout, without: Sequence[int] = ()) -> list[int]:
    """Count the sequences that hold each segment: 2 for the prompt of a pair, 1 for its answers.

    Those that end in a segment of `without` are not counted.
    """
    inner = {ancestor for path in layout.ancestors for ancestor in path}
    counts = [0] * len(layout.lengths)
    for segment, path in enumerate(layout.ancestors):
        if segment not in inner and segment not in without:
            for step in (*path, segment):
                counts[step] += 1
    return counts
