"""Score a Batch: one flat forward pass, then log-probabilities of the trained tokens alone.

The vocabulary projection runs only where a token is trained, in chunks, and keeps no (tokens, vocabulary) tensor for
the backward pass. With g the gradient of one token's log-probability, p its predicted distribution, y its id, W the
output embedding and h the hidden state,

    dh = g (W_y - p W)        dW = g (1_y - p) h^T

so with a frozen W (LoRA) the bracket is computed in the forward pass and nothing is computed twice; with a trained W
the logits of a chunk are computed again.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from poise.batch.attention import NAME, register, use_attention
from poise.batch.batch import Batch, Layout, make_batch, segment_order, unshared
from poise.batch.kernels import KernelName
from poise.batch.logps import Logps
from poise.batch.neftune import noisy_embeddings
from poise.batch.router import Routing, router_of
from poise.batch.row import Row
from poise.errors import ModelError

CHUNK_ELEMENTS = 1 << 23
"""Logits held at once: 32 MiB in float32."""
TOKENS_STEP = 64
"""On the CPU oneDNN compiles a 16-bit product anew for every number of tokens, which takes as long as the product of
1,000 tokens and keeps about 0.7 MB. Filled up to multiples of this, few numbers occur."""

Way = Literal["shared", "packed", "alone"]
"""How sequences are computed: prefixes once; side by side, each with its own copy of the prefix; one after another."""


@dataclass(frozen=True)
class _Scored:
    """What one pass finds: (trained,) log-probabilities and collisions, and how tokens were sent to experts."""

    values: Tensor
    collision: Tensor | None
    routing: Routing | None


class Scorer(nn.Module):
    """A causal language model as a function from Batch to Logps; the module that is trained."""

    def __init__(
        self,
        model: nn.Module,
        *,
        way: Way = "shared",
        router_aux_loss_coef: float | None = None,
        neftune_noise_alpha: float | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.router = router_of(self.causal_lm, router_aux_loss_coef)
        """The router loss of a mixture of experts, for `Logps.router`; None where there is none."""
        self.neftune_noise_alpha = neftune_noise_alpha
        """Scale of the noise on embeddings while training; None or 0 for none."""
        self.own_logits = False
        """Whether `alone` takes the model's own logits, for one whose projection is not understood here."""
        self.kernel: KernelName = "sdpa"
        """What attends within segments."""
        self.with_collision = False
        """Whether Logps carry `collision`, which costs another pass over the logits."""
        self.compute(way)

    def compute(self, way: Way) -> None:
        """Choose how sequences are computed; `alone` is the model's usual attention, which every model has."""
        self.way: Way = way
        if way != "alone":
            register()
        self.causal_lm.set_attn_implementation(usual_attention(self.causal_lm) if way == "alone" else NAME)

    def tokens(self, row: Row) -> int:
        """Tokens that a row comes to here: a shared prefix once, else once per sequence."""
        return row.tokens if self.way == "shared" else sum(row.sequence_lengths())

    @property
    def causal_lm(self) -> Any:
        """The transformers model inside any PEFT wrapper."""
        return without_adapter(self.model)

    @property
    def _no_split_modules(self) -> list[str]:
        """Classes of the layers that are divided over processes one by one, for accelerate; the rest stays together."""
        present = {type(module).__name__ for module in self.modules()}
        return sorted(present & set(getattr(self.causal_lm, "_no_split_modules", None) or ()))

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
        if self.way == "shared":
            return self._logps(self._flat(batch), batch)
        if self.way == "packed":
            return self._logps(self._packed(batch), batch)
        return self._logps(self._one_by_one(batch, own_logits=self.own_logits), batch)

    def one_by_one(self, batch: Batch) -> Logps:
        """Score each sequence alone, with the model's usual attention and its own logits: what sharing must equal."""
        with use_attention(self.causal_lm, usual_attention(self.causal_lm)):
            return self._logps(self._one_by_one(batch, own_logits=True), batch)

    @torch.no_grad()
    def predictions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (trained,) log-probabilities of the targets, and whether each is the likeliest token.

        A batch that is computed `alone` holds one sequence; its values come from the model's own logits.
        """
        predictors, which = batch.predictors.unique(return_inverse=True)
        if self.way == "alone":
            logits = self._run(self.causal_lm, batch, {}).logits[0, predictors]
            return _picked_and_likeliest(_at_least_float32(logits), which, batch.targets)
        hidden = self._decoded_flat(batch).last_hidden_state[0, predictors]
        head, (scale, cap) = self.causal_lm.get_output_embeddings(), _logit_transform(self.causal_lm)
        values = torch.zeros(len(which), device=hidden.device, dtype=_at_least_float32(hidden[:0]).dtype)
        likeliest = torch.zeros(len(which), device=hidden.device, dtype=torch.bool)
        start = 0
        for states in hidden.split(_chunk_size(head.weight.shape[0])):
            inside = ((which >= start) & (which < start + len(states))).nonzero()[:, 0]
            logits = _module_logits(head, states, scale, cap)
            found = _picked_and_likeliest(logits, which[inside] - start, batch.targets[inside])
            values[inside], likeliest[inside] = found
            start += len(states)
        return values, likeliest

    def _logps(self, scored: _Scored, batch: Batch) -> Logps:
        logps = batch.logps(scored.values, scored.collision)
        if self.router is None or scored.routing is None:
            return logps
        return replace(logps, router=self.router.coefficient * scored.routing.loss())

    def _flat(self, batch: Batch) -> _Scored:
        """Score in one pass; ModelError where a layer computed past the segments."""
        return self._read(self._decoded_flat(batch), batch)

    def _decoded_flat(self, batch: Batch) -> Any:
        laid = batch.filled(TOKENS_STEP) if _compiles_each_shape(self.device, self.causal_lm.dtype) else batch
        before, laid.layout.kernel = laid.layout.attended, self.kernel
        output = self._decoded(laid, position_ids=laid.position_ids[None], segments=laid.layout)
        attended, layers = laid.layout.attended - before, self.config.get_text_config().num_hidden_layers
        if attended < layers:
            raise ModelError(
                f"{layers - attended} of {layers} layers do not attend through {NAME}: they would mix rows"
            )
        if any(isinstance(module, nn.Conv1d) for module in decoder_of(self.causal_lm).modules()):
            raise ModelError("its layers also carry a state or a convolution from token to token: that would mix rows")
        return output

    def _packed(self, batch: Batch) -> _Scored:
        """Lay every sequence out in full, side by side; the values come back in the order of the batch's segments."""
        sequences = [sequence for row in batch.rows for sequence, _ in unshared(row)]
        return _in_order(self._flat(make_batch(sequences).to(batch.input_ids.device)), batch)

    def _one_by_one(self, batch: Batch, *, own_logits: bool) -> _Scored:
        """Score one sequence after another with the attention the model has at the moment."""
        score = self._by_own_logits if own_logits else self._projected
        sequences = [sequence for row in batch.rows for sequence, _ in unshared(row)]
        scored = [score(make_batch([sequence]).to(batch.input_ids.device)) for sequence in sequences]
        return _in_order(_joined(scored), batch)

    def _decoded(self, batch: Batch, **keywords: Any) -> Any:
        output = self._run(decoder_of(self.causal_lm), batch, keywords)
        if not hasattr(output, "last_hidden_state"):
            raise ModelError("the model's decoder returns no hidden states")
        return output

    def _projected(self, batch: Batch) -> _Scored:
        return self._read(self._decoded(batch), batch)

    def _read(self, output: Any, batch: Batch) -> _Scored:
        """Turn the decoder's hidden states into log-probabilities by the projection here."""
        hidden = output.last_hidden_state[0, batch.predictors]
        values, collision = token_logps(hidden, batch.targets, self.causal_lm, with_collision=self.with_collision)
        return _Scored(values, collision, self._routing(output, batch, values))

    def _by_own_logits(self, batch: Batch) -> _Scored:
        """Score by the logits that the model itself returns: exact for any model, (tokens, vocabulary) in memory."""
        output = self._run(self.causal_lm, batch, {})
        logits = _at_least_float32(output.logits[0, batch.predictors])
        values, collision = _picked(logits, batch.targets, self.with_collision)
        return _Scored(values, collision if self.with_collision else None, self._routing(output, batch, values))

    def _run(self, model: Any, batch: Batch, keywords: dict[str, Any]) -> Any:
        if self.router is not None:
            keywords = keywords | {"output_router_logits": True}
        with self._noise(batch.layout):
            return model(input_ids=batch.input_ids[None], use_cache=False, **keywords)

    def _noise(self, layout: Layout) -> contextlib.AbstractContextManager[None]:
        if not self.training or not self.neftune_noise_alpha:
            return contextlib.nullcontext()
        return noisy_embeddings(self.causal_lm, layout, self.neftune_noise_alpha)

    def _routing(self, output: Any, batch: Batch, values: Tensor) -> Routing | None:
        if self.router is None:
            return None
        routing = self.router.of_batch(output.router_logits, batch)
        if values.requires_grad and not routing.probability.requires_grad:
            raise ModelError(
                "the router loss gets no gradient\n"
                "    why:    use_reentrant: true cuts it off where activations are recomputed\n"
                "    to do:  set activation_checkpointing_kwargs: {use_reentrant: false}, or router_aux_loss_coef: 0"
            )
        return routing


def _in_order(scored: _Scored, batch: Batch) -> _Scored:
    """Bring what was found for the sequences of a batch, one after another, in the order of its segments and rows."""
    order = segment_order(batch).to(scored.values.device)
    collision = None if scored.collision is None else scored.collision[order]
    routing = scored.routing and scored.routing.summed([len(row.sequence_lengths()) for row in batch.rows])
    return _Scored(scored.values[order], collision, routing)


def _joined(parts: Sequence[_Scored]) -> _Scored:
    collisions = [part.collision for part in parts if part.collision is not None]
    routings = [part.routing for part in parts if part.routing is not None]
    return _Scored(
        torch.cat([part.values for part in parts]),
        torch.cat(collisions) if collisions else None,
        Routing.joined(routings) if routings else None,
    )


def without_adapter(model: Any) -> Any:
    """Return the transformers model that a PEFT wrapper holds, its layers adapted in place; others as they are."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def decoder_of(model: Any) -> Any:
    """Return the part of a causal language model before its vocabulary projection."""
    decoder = model.get_decoder()
    return getattr(model, "model", decoder) if decoder is model else decoder  # Llama 4 takes itself for its decoder


def usual_attention(model: Any) -> str:
    """Name transformers' own exact attention for a model: `sdpa`, or `eager` where it has no sdpa or caps logits."""
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None)
    return "sdpa" if getattr(model, "_supports_sdpa", False) and not capped else "eager"


def token_logps(
    hidden: Tensor, targets: Tensor, model: Any, *, with_collision: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Log-probability in nats of each target (trained,) given the hidden state (trained, width) before it.

    With `with_collision` also log sum_v p_v^2 of each predicted distribution, without gradient.
    """
    head = model.get_output_embeddings()
    scale, cap = _logit_transform(model)
    if type(head) is nn.Linear:
        dtype = _product_dtype(hidden.device, hidden.dtype)
        missing = -len(targets) % TOKENS_STEP if _compiles_each_shape(hidden.device, hidden.dtype) else 0
        states, ids = (
            (F.pad(hidden, (0, 0, 0, missing)), F.pad(targets, (0, missing))) if missing else (hidden, targets)
        )
        with torch.autocast(hidden.device.type, enabled=False):
            projected = _ChunkedLogps.apply(states, head.weight, head.bias, ids, scale, cap, dtype, with_collision)
        values, collision = cast("tuple[Tensor, Tensor]", projected)
        if missing:
            values, collision = values[: len(targets)].clone(), collision[: len(targets)]
    else:
        parts = [
            cast(
                "tuple[Tensor, Tensor]",
                checkpoint(_module_logps, head, states, ids, scale, cap, with_collision, use_reentrant=False),
            )
            for states, ids in zip(*_chunks(hidden, targets, head.weight.shape[0]), strict=True)
        ]
        values, collision = (torch.cat(each) for each in zip(*parts, strict=True))
    return values, collision if with_collision else None


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
        with_collision: bool,
    ) -> tuple[Tensor, Tensor]:
        needs_hidden, needs_weight = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:3])
        direction = torch.empty_like(hidden) if needs_hidden and not needs_weight else None
        values: list[Tensor] = []
        collision: list[Tensor] = []
        start = 0
        for states, ids in zip(*_chunks(hidden, targets, weight.shape[0]), strict=True):
            logits, slope = _logits(states, weight, bias, scale, cap, dtype)
            found, weights, total = _log_softmax_at(logits, ids)
            values.append(found)
            if with_collision:
                collision.append(2 * (torch.linalg.vector_norm(weights, dim=-1) / total[:, 0]).log())
            if direction is not None:
                toward = _toward_target(weights, total, ids, slope, scale)
                direction[start : start + len(ids)] = toward.to(dtype) @ weight.to(dtype)
            start += len(ids)
        if direction is not None:
            ctx.save_for_backward(direction)
        else:
            ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.frozen, ctx.scale, ctx.cap, ctx.dtype = direction is not None, scale, cap, dtype
        collisions = torch.cat(collision) if collision else values[0].new_zeros(0)
        ctx.mark_non_differentiable(collisions)
        return torch.cat(values), collisions

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        gradient, _ = grad_outputs
        if ctx.frozen:
            (direction,) = ctx.saved_tensors
            return (direction * gradient[:, None]).to(direction.dtype), None, None, None, None, None, None, None
        hidden, weight, bias, targets = ctx.saved_tensors
        hidden_gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        weight_gradient = torch.zeros_like(weight)
        bias_gradient = None if bias is None else torch.zeros_like(bias)
        start = 0
        for states, ids in zip(*_chunks(hidden, targets, weight.shape[0]), strict=True):
            logits, slope = _logits(states, weight, bias, ctx.scale, ctx.cap, ctx.dtype)
            _, weights, total = _log_softmax_at(logits, ids)
            toward = _toward_target(weights, total, ids, slope, ctx.scale)
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
        return hidden_gradient, weight_gradient, bias_gradient, None, None, None, None, None


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


def _log_softmax_at(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (log-probability of each id, weights, their sum (chunk, 1)); `logits` is used up and becomes the weights.

    A token's probability is its weight over the sum. Working in place halves the time beside the product itself.
    """
    picked = logits.gather(1, ids[:, None])
    top = logits.amax(dim=-1, keepdim=True)
    weights = logits.sub_(top).exp_()
    total = weights.sum(dim=-1, keepdim=True)
    return (picked - (top + total.log()))[:, 0], weights, total


def _toward_target(weights: Tensor, total: Tensor, ids: Tensor, slope: Tensor | None, scale: float) -> Tensor:
    """Gradient (chunk, vocabulary) of each id's log-probability by the projection's output; reuses `weights`."""
    toward = weights.mul_(-1 / total)
    toward[torch.arange(len(ids), device=ids.device), ids] += 1
    if slope is not None:
        toward *= slope
    return toward.mul_(scale) if scale != 1 else toward


def _module_logps(
    head: nn.Module, states: Tensor, ids: Tensor, scale: float, cap: float | None, with_collision: bool
) -> tuple[Tensor, Tensor]:
    """Do the same through a head that is not a plain matrix (adapted, quantized)."""
    return _picked(_module_logits(head, states, scale, cap), ids, with_collision)


def _module_logits(head: nn.Module, states: Tensor, scale: float, cap: float | None) -> Tensor:
    logits = _at_least_float32(head(states)) * scale
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _picked(logits: Tensor, ids: Tensor, with_collision: bool) -> tuple[Tensor, Tensor]:
    predicted = logits.log_softmax(dim=-1)
    collision = (2 * predicted.detach()).logsumexp(dim=-1) if with_collision else predicted.new_zeros(0)
    return predicted.gather(1, ids[:, None])[:, 0], collision


def _picked_and_likeliest(logits: Tensor, which: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each target in its row `which` of the logits, and whether it is the largest."""
    found = logits[which, targets] - logits.logsumexp(dim=-1)[which]
    return found, logits.argmax(dim=-1)[which] == targets


def _chunks(hidden: Tensor, targets: Tensor, vocabulary: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    size = _chunk_size(vocabulary)
    return hidden.split(size), targets.split(size)


def _chunk_size(vocabulary: int) -> int:
    return max(TOKENS_STEP, CHUNK_ELEMENTS // vocabulary // TOKENS_STEP * TOKENS_STEP)


def _logit_transform(model: Any) -> tuple[float, float | None]:
    """Return (factor, cap) that the model applies to its logits.

    Cohere's, Falcon-H1's and HyperCLOVA X's factor, Granite's divisor, Gemma's and RecurrentGemma's cap. What is not
    known here shows in the check before training, and the model's own logits are taken.
    """
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None) or getattr(config, "logits_soft_cap", None)
    divisor = getattr(config, "logits_scaling", None)
    if divisor is not None:
        return (divisor if config.model_type == "hyperclovax" else 1 / divisor), cap
    factors = (getattr(config, name, None) for name in ("logit_scale", "lm_head_multiplier"))
    return next((float(factor) for factor in factors if factor is not None), 1.0), cap


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _product_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return what products of values in `dtype` are computed in, which autocast may change."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else dtype


def _compiles_each_shape(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cpu" and _product_dtype(device, dtype) in (torch.bfloat16, torch.float16)
