"""Write a model of transformers as one GGUF file, tensor by tensor: settings, tokenizer, template and stop tokens.

    gguf-f16     16 bits; norms and biases 32
    gguf-q8_0    8 bits and a scale for every 32 weights
    gguf-q4_0    4 bits and a scale for every 32 weights; embeddings and head as in q8_0

A row that is no multiple of 32 stays at 16 bits.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from poise.batch.tokens import adds_bos
from poise.errors import ModelError
from poise.publish.gguf.families import CONVERTER, Family, arranged, family_of, rotation_factors, settings
from poise.publish.gguf.vocabulary import vocabulary

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

KINDS = ("gguf-f16", "gguf-q8_0", "gguf-q4_0")
STOPS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""Where a GGUF names the tokens that end an answer, the first the one that ends a turn."""
ENDS = ("token_embd", "output")


@dataclass(frozen=True)
class _Entry:
    """A tensor of the file before it is made."""

    name: str
    own: str
    """What transformers calls it."""
    weight: Tensor
    """As transformers has it."""
    kind: "GGMLQuantizationType"


def refuse_unwritable(config: Any, tokenizer: Any) -> None:
    """Raise what stands in the way of a GGUF, before a model is loaded."""
    if find_spec("gguf") is None:
        raise ModelError("GGUF files need the package gguf\n    to do:  pip install 'poise[quantize]'")
    family_of(config)
    vocabulary(tokenizer, config.vocab_size)


def write_gguf(model: Any, tokenizer: Any, stop_ids: Sequence[int], file: Path, kind: str, name: str) -> None:
    """Write one file; ModelError where the model has a part that llama.cpp does not."""
    from gguf import GGUFWriter

    config = model.config
    family = family_of(config)
    entries = list(_entries(config, model.state_dict(), kind))
    writer = GGUFWriter(str(file), family.arch)
    _write_settings(writer, family, config, kind, name)
    _write_tokenizer(writer, tokenizer, stop_ids, config.vocab_size)
    for entry in entries:
        _announce(writer, entry)
    with closing(writer):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for entry in entries:
            writer.write_tensor_data(_values(entry, arranged(family, config, entry.own, entry.weight)))


def named_tensors(config: Any, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield llama.cpp's and transformers' name of every weight; ModelError where llama.cpp has no place for one."""
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    arch = family_of(config).arch
    known = next(key for key, called in MODEL_ARCH_NAMES.items() if called == arch)
    names = get_tensor_name_map(MODEL_ARCH(known), config.num_hidden_layers)
    for own in weights:
        if own == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name = names.get_name(own, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ModelError(f"llama.cpp's {arch} has no place for {own}\n    to do:  {CONVERTER}")
        yield name, own


def _write_settings(writer: "GGUFWriter", family: Family, config: Any, kind: str, name: str) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType, RopeScalingType

    files = (LlamaFileType.MOSTLY_F16, LlamaFileType.MOSTLY_Q8_0, LlamaFileType.MOSTLY_Q4_0)
    writer.add_name(name)
    writer.add_file_type(files[KINDS.index(kind)])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    for key, value in settings(family, config):
        getattr(writer, f"add_{key}")(RopeScalingType(value) if key == "rope_scaling_type" else value)


def _write_tokenizer(writer: "GGUFWriter", tokenizer: Any, stop_ids: Sequence[int], rows: int) -> None:
    found = vocabulary(tokenizer, rows)
    writer.add_tokenizer_model(found.model)
    writer.add_tokenizer_pre(found.pre)
    writer.add_token_list(found.tokens)
    writer.add_token_types(found.kinds)
    if found.scores is not None:
        writer.add_token_scores(found.scores)
    if found.merges is not None:
        writer.add_token_merges(found.merges)
    if found.adds_space is not None:
        writer.add_add_space_prefix(found.adds_space)
    writer.add_add_bos_token(adds_bos(tokenizer))
    writer.add_add_eos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.get_chat_template())
    if len(stop_ids) > len(STOPS):
        raise ModelError(
            f"a GGUF names {len(STOPS)} stop tokens, this model has {len(stop_ids)}\n    to do:  {CONVERTER}"
        )
    # every place is filled, or llama.cpp takes a token into it whose name it likes
    for key, index in zip(STOPS, [*stop_ids, *[stop_ids[-1]] * len(STOPS)], strict=False):
        getattr(writer, f"add_{key}")(index)
    for key in ("bos", "pad", "unk"):
        index = getattr(tokenizer, f"{key}_token_id")
        if index is not None:
            getattr(writer, f"add_{key}_token_id")(index)


def _entries(config: Any, weights: Mapping[str, Tensor], kind: str) -> Iterator[_Entry]:
    from gguf import GGMLQuantizationType

    factors = rotation_factors(config)
    if factors is not None:
        yield _Entry("rope_freqs.weight", "", factors, GGMLQuantizationType.F32)
    for name, own in named_tensors(config, weights):
        yield _Entry(name, own, weights[own], _kind(kind, name, weights[own]))


def _kind(kind: str, name: str, weight: Tensor) -> "GGMLQuantizationType":
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if weight.ndim < 2:
        return GGMLQuantizationType.F32
    chosen = GGMLQuantizationType[kind.removeprefix("gguf-").upper()]
    if chosen is GGMLQuantizationType.Q4_0 and name.split(".")[0] in ENDS:
        chosen = GGMLQuantizationType.Q8_0
    return GGMLQuantizationType.F16 if weight.shape[-1] % GGML_QUANT_SIZES[chosen][0] else chosen


def _announce(writer: "GGUFWriter", entry: _Entry) -> None:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quant_shape_to_byte_shape

    shape = tuple(entry.weight.shape)
    block, size = GGML_QUANT_SIZES[entry.kind]
    width = entry.weight.numel() // block * size
    if entry.kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
        of = np.dtype(np.float32 if entry.kind is GGMLQuantizationType.F32 else np.float16)
        writer.add_tensor_info(entry.name, shape, of, width, raw_dtype=entry.kind)
    else:
        packed = quant_shape_to_byte_shape(shape, entry.kind)
        writer.add_tensor_info(entry.name, packed, np.dtype(np.uint8), width, raw_dtype=entry.kind)


def _values(entry: _Entry, weight: Tensor) -> "np.ndarray[Any, Any]":
    from gguf import GGMLQuantizationType, quantize

    if entry.kind is GGMLQuantizationType.F16 and weight.abs().max() > torch.finfo(torch.float16).max:
        raise ModelError(f"{entry.name} holds weights that 16 bits of GGUF cannot\n    to do:  another --to")
    values = weight.detach().float().cpu().contiguous().numpy()
    return np.ascontiguousarray(quantize(values, entry.kind))
