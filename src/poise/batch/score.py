"""Score a Batch: one flat forward pass, then log-probabilities of the trained tokens alone.

The vocabulary projection runs only where a token is trained, in chunks, and keeps no (tokens, vocabulary) tensor for
the backward pass. With g the gradient of one token's log-probability, p its predicted distribution, y its id, W the
output embedding and h the hidden state,

    dh = g (W_y - p W)        dW = g (1_y - p) h^T

so with a frozen W (LoRA) the bracket is computed in the forward pass and nothing is computed twice; with a trained W
the logits of a chunk are computed again.
"""

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from poise.batch.attention import NAME, register, use_attention
from poise.batch.batch import Batch, make_batch, unshared
from poise.batch.logps import Logps
from poise.batch.row import Row
from poise.errors import ModelError

CHUNK_ELEMENTS = 1 << 23
"""Logits held at once: 32 MiB in float32."""


class Scorer(nn.Module):
    """A causal language model as a function from Batch to Logps; the module that is trained."""

    def __init__(self, model: nn.Module, *, shared: bool = True) -> None:
        super().__init__()
        self.model = model
        self.share_prefixes(shared)

    def share_prefixes(self, shared: bool) -> None:
        """Compute prefixes once, or every sequence as a row of its own with the model's usual attention."""
        self.shared = shared
        if shared:
            register()
        self.causal_lm.set_attn_implementation(NAME if shared else usual_attention(self.causal_lm))

    @property
    def causal_lm(self) -> Any:
        """The transformers model inside any PEFT wrapper."""
        return without_adapter(self.model)

    @property
    def config(self) -> Any:
        """The model's configuration, where transformers' Trainer looks for it."""
        return self.causal_lm.config

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.causal_lm.device

    def forward(self, batch: Batch) -> Logps:
        """Return the log-probabilities of the batch's trained tokens."""
        return _logps(self._shared(batch) if self.shared else self._one_by_one(batch), batch)

    def one_by_one(self, batch: Batch) -> Logps:
        """Score each sequence alone, with the model's usual attention and its own logits: what sharing must equal."""
        with use_attention(self.causal_lm, usual_attention(self.causal_lm)):
            return _logps(self._one_by_one(batch), batch)

    def _shared(self, batch: Batch) -> Tensor:
        return token_logps(self._hidden(batch)[batch.predictors], batch.targets, self.causal_lm)

    def _hidden(self, batch: Batch) -> Tensor:
        """Last hidden states (tokens, width); ModelError where a layer computed past the segments."""
        model, layout = self.causal_lm, batch.layout
        before = layout.attended
        output = model.get_decoder()(
            input_ids=batch.input_ids[None],
            position_ids=batch.position_ids[None],
            use_cache=False,
            segments=layout,
        )
        attended, layers = layout.attended - before, self.config.get_text_config().num_hidden_layers
        if attended < layers:
            raise ModelError(
                f"{layers - attended} of {layers} layers do not attend through {NAME}: they would mix rows"
            )
        if not hasattr(output, "last_hidden_state"):
            raise ModelError("the model's decoder returns no hidden states")
        return output.last_hidden_state[0]

    def _one_by_one(self, batch: Batch) -> Tensor:
        values: list[Tensor] = []
        for row in batch.rows:
            sequences = unshared(row)
            scored = [self._sequence(sequence, batch.input_ids.device) for sequence, _ in sequences]
            in_segment_order = np.argsort(np.concatenate([owners for _, owners in sequences]), kind="stable")
            values.append(torch.cat(scored)[torch.from_numpy(in_segment_order).to(scored[0].device)])
        return torch.cat(values)

    def _sequence(self, row: Row, device: torch.device) -> Tensor:
        alone = make_batch([row]).to(device)
        logits = self.causal_lm(input_ids=alone.input_ids[None], use_cache=False).logits[0]
        picked = _at_least_float32(logits[alone.predictors])
        return picked.log_softmax(dim=-1).gather(1, alone.targets[:, None])[:, 0]


def without_adapter(model: Any) -> Any:
    """Return the transformers model that a PEFT wrapper holds, its layers adapted in place; others as they are."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def usual_attention(model: Any) -> str:
    """Name transformers' own exact attention for a model: `sdpa`, or `eager` where it has no sdpa or caps logits."""
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None)
    return "sdpa" if getattr(model, "_supports_sdpa", False) and not capped else "eager"


def token_logps(hidden: Tensor, targets: Tensor, model: Any) -> Tensor:
    """Log-probability in nats of each target (trained,) given the hidden state (trained, width) before it."""
    head = model.get_output_embeddings()
    scale, cap = _logit_transform(model)
    if type(head) is nn.Linear:
        dtype = torch.get_autocast_dtype(hidden.device.type) if _autocasts(hidden) else hidden.dtype
        with torch.autocast(hidden.device.type, enabled=False):
            projected = _ChunkedLogps.apply(hidden, head.weight, head.bias, targets, scale, cap, dtype)
        return cast(Tensor, projected)
    return torch.cat(
        [
            cast(Tensor, checkpoint(_module_logps, head, states, ids, scale, cap, use_reentrant=False))
            for states, ids in zip(*_chunks(hidden, targets, head.weight.shape[0]), strict=True)
        ]
    )


class _ChunkedLogps(torch.autograd.Function):
    """The projection as one operation; the equations stand at the top of this file."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scale: float,
        cap: float | None,
        dtype: torch.dtype,
    ) -> Tensor:
        needs_hidden, needs_weight = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:3])
        direction = torch.empty_like(hidden) if needs_hidden and not needs_weight else None
        values: list[Tensor] = []
        start = 0
        for states, ids in zip(*_chunks(hidden, targets, weight.shape[0]), strict=True):
            logits, slope = _logits(states, weight, bias, scale, cap, dtype)
            normaliser = logits.logsumexp(dim=-1)
            values.append(logits.gather(1, ids[:, None])[:, 0] - normaliser)
            if direction is not None:
                toward = _toward_target(logits, normaliser, ids, slope, scale)
                direction[start : start + len(ids)] = toward.to(dtype) @ weight.to(dtype)
            start += len(ids)
        if direction is not None:
            ctx.save_for_backward(direction)
        else:
            ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.frozen, ctx.scale, ctx.cap, ctx.dtype = direction is not None, scale, cap, dtype
        return torch.cat(values) if values else hidden.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = grad_outputs
        if ctx.frozen:
            (direction,) = ctx.saved_tensors
            return (direction * gradient[:, None]).to(direction.dtype), None, None, None, None, None, None
        hidden, weight, bias, targets = ctx.saved_tensors
        hidden_gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        weight_gradient = torch.zeros_like(weight)
        bias_gradient = None if bias is None else torch.zeros_like(bias)
        start = 0
        for states, ids in zip(*_chunks(hidden, targets, weight.shape[0]), strict=True):
            logits, slope = _logits(states, weight, bias, ctx.scale, ctx.cap, ctx.dtype)
            toward = _toward_target(logits, logits.logsumexp(dim=-1), ids, slope, ctx.scale)
            toward = toward.mul_(gradient[start : start + len(ids), None]).to(ctx.dtype)
            if hidden_gradient is not None:
                hidden_gradient[start : start + len(ids)] = toward @ weight.to(ctx.dtype)
            if ctx.dtype == weight.dtype:
                weight_gradient.addmm_(toward.T, states)
            else:
                weight_gradient += toward.T @ states.to(ctx.dtype)
            if bias_gradient is not None:
                bias_gradient += toward.sum(dim=0)
            start += len(ids)
        return hidden_gradient, weight_gradient, bias_gradient, None, None, None, None


def _logits(
    states: Tensor, weight: Tensor, bias: Tensor | None, scale: float, cap: float | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Return (logits, slope of the cap at each, None without a cap), at least in float32."""
    logits = _at_least_float32(F.linear(states.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)))
    if scale != 1:
        logits = logits * scale
    if cap is None:
        return logits, None
    bent = torch.tanh(logits / cap)
    return bent * cap, 1 - bent.square()


def _toward_target(logits: Tensor, normaliser: Tensor, ids: Tensor, slope: Tensor | None, scale: float) -> Tensor:
    """Gradient (chunk, vocabulary) of each target's log-probability by the projection's output; reuses `logits`."""
    toward = logits.sub_(normaliser[:, None]).exp_().neg_()
    toward[torch.arange(len(ids), device=ids.device), ids] += 1
    if slope is not None:
        toward *= slope
    return toward.mul_(scale) if scale != 1 else toward


def _module_logps(head: nn.Module, states: Tensor, ids: Tensor, scale: float, cap: float | None) -> Tensor:
    """Do the same through a head that is not a plain matrix (adapted, quantized)."""
    logits = _at_least_float32(head(states)) * scale
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits.log_softmax(dim=-1).gather(1, ids[:, None])[:, 0]


def _chunks(hidden: Tensor, targets: Tensor, vocabulary: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    size = max(64, CHUNK_ELEMENTS // vocabulary)
    return hidden.split(size), targets.split(size)


def _logit_transform(model: Any) -> tuple[float, float | None]:
    """Return (factor, cap) that the model applies to its logits: Cohere's and Granite's factor, Gemma's cap."""
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    if getattr(config, "logits_scaling", None) is not None:
        return 1 / config.logits_scaling, cap
    if getattr(config, "logit_scale", None) is not None:
        return float(config.logit_scale), cap
    return 1.0, cap


def _logps(values: Tensor, batch: Batch) -> Logps:
    return Logps(values, batch.owners, len(batch.layout.lengths), batch.chosen, batch.rejected)


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _autocasts(values: Tensor) -> bool:
    return torch.is_autocast_enabled(values.device.type)
