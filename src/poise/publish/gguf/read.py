"""Read a GGUF's weights back into the model it was made of, where llama.cpp is not there to run it.

What is rehearsed then is what the file's bits stand for. The tokenizer is transformers' own; template and stop tokens
are the file's.
"""

import copy
from pathlib import Path
from typing import Any

import torch

from poise.publish.gguf.families import FAMILIES, restored
from poise.publish.gguf.write import STOPS, named_tensors


def read_weights(model: Any, file: Path) -> Any:
    """Put the weights of the file in the place of the model's, in float32; returns the model."""
    from gguf import GGUFReader, dequantize

    stored = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    model = model.float()
    config, weights = model.config, model.state_dict()
    with torch.no_grad():
        for name, own in named_tensors(config, weights):
            tensor = stored[name]
            values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).reshape(weights[own].shape)
            weights[own].copy_(restored(FAMILIES[config.model_type], config, own, values))
    return model


def read_tokenizer(tokenizer: Any, file: Path) -> Any:
    """Return a copy of the tokenizer with the template that the file holds."""
    from gguf import GGUFReader

    found = copy.deepcopy(tokenizer)
    template = GGUFReader(file).fields.get("tokenizer.chat_template")
    found.chat_template = template.contents() if template else None
    return found


def read_stops(file: Path) -> tuple[int, ...]:
    """Return the stop tokens that the file names."""
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    return tuple(dict.fromkeys(int(fields[f"tokenizer.ggml.{key}"].contents()) for key in STOPS))
