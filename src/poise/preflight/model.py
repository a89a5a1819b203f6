"""What can be said of a model by its config alone: built without weights, on torch's meta device."""

from dataclasses import dataclass, field
from typing import Any

from poise.models.open import empty_causal_lm, open_adapter_config, open_config

ROTARY_KEYS = ("rope_parameters", "rope_theta", "rotary_emb_base", "rotary_dim")


@dataclass(frozen=True)
class ModelFacts:
    """The facts of a model that checks use."""

    parameters: int
    positions: int | None = None
    """Tokens it was made for; None where its config does not say or nothing limits it."""
    learns_positions: bool = False
    """Whether each position is a row of a table, so that there are no more of them."""
    vocabulary: int = 0
    """Rows of its embeddings."""
    linear_layers: dict[str, int] = field(default_factory=dict[str, int])
    """Name of each linear layer -> inputs + outputs: what one rank of LoRA on it takes."""
    adapter_base: str | None = None
    """The base, where `model_name_or_path` is an adapter."""
    config: Any = None
    """As transformers read it."""


def model_facts(name: str, revision: str) -> ModelFacts:
    """Build the model's shape; an adapter gives the facts of its base. Raises what transformers raises."""
    import torch

    base = (open_adapter_config(name, revision) or {}).get("base_model_name_or_path")
    config = open_config(base or name, revision)
    with torch.device("meta"):
        model = empty_causal_lm(config)
    text = config.get_text_config()
    is_rotary = any(getattr(text, key, None) for key in ROTARY_KEYS)
    positions = None if getattr(text, "alibi", False) else getattr(text, "max_position_embeddings", None)
    return ModelFacts(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        positions=positions,
        learns_positions=positions is not None and not is_rotary,
        vocabulary=int(text.vocab_size),
        linear_layers={
            each: module.in_features + module.out_features
            for each, module in model.named_modules()
            if isinstance(module, torch.nn.Linear)
        },
        adapter_base=base,
        config=config,
    )
