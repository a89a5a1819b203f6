"""Put a tiny model and a few local rows in the place of what a recipe names; everything else stays the recipe's."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poise.recipe import Recipe

SPECIALS = ("<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<|endoftext|>")
ROWS = 6


def make_model(folder: Path) -> Path:
    """Save a two-layer Llama of 16 dimensions with a byte tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=list(SPECIALS), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["yes no"], trainer)
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(wrapped), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


def in_place(recipe: Recipe, model: Path, folder: Path) -> list[str]:
    """Write rows for every dataset and split that a recipe names; returns the overrides of a run of two steps."""
    return [*_model(recipe, model), *_data(recipe, folder / "data"), *_short(recipe, folder)]


def _model(recipe: Recipe, model: Path) -> Iterator[str]:
    yield f"model_name_or_path={model}"
    if recipe.model.tokenizer_name_or_path:
        yield f"tokenizer_name_or_path={model}"
    yield from ("torch_dtype=float32", "bf16=false", "tf32=null", "use_cpu=true")
    if recipe.model.load_in_4bit:
        yield "load_in_4bit=false"  # weights of 16 dimensions fill no block of 64
    if "paged" in recipe.training["optim"] or "8bit" in recipe.training["optim"]:
        yield "optim=adamw_torch"  # they need a GPU


def _data(recipe: Recipe, folder: Path) -> Iterator[str]:
    """Yield where each dataset is now; the recipe's own way of naming data, its splits and fractions stay."""
    data = recipe.data
    for part in (*data.train_parts, *data.test_parts):
        _write(folder / _plain(part.name), _split(part.split), recipe.verb)
    if data.dataset_name:
        yield f"dataset_name={folder / _plain(data.dataset_name)}"
        yield "dataset_config=null"  # a folder has none
        yield f"dataset_train_split={_split(data.dataset_train_split)}"
        if data.dataset_test_split:
            yield f"dataset_test_split={_split(data.dataset_test_split)}"
    for index, entry in enumerate(data.dataset_mixture.datasets if data.dataset_mixture else []):
        yield f"dataset_mixture.datasets.{index}.id={folder / _plain(entry.id)}"
        yield f"dataset_mixture.datasets.{index}.config=null"
        yield f"dataset_mixture.datasets.{index}.split={_split(entry.split)}"
    if data.test_split_size:
        yield "dataset_mixture.test_split_size=2"
    if data.dataset_mixer:
        # a thousandth of six rows is none
        mixer = {str(folder / _plain(name)): max(share, 0.5) for name, share in data.dataset_mixer.items()}
        yield f"dataset_mixer={json.dumps(mixer)}"
        yield "dataset_configs=null"


def _short(recipe: Recipe, folder: Path) -> Iterator[str]:
    yield f"output_dir={folder / 'run'}"
    yield f"reference_cache={folder / 'cache'}"
    yield from ("max_steps=2", "logging_steps=1", "question_count=0", "report_to=none")
    if recipe.training["eval_strategy"] == "steps":
        yield "eval_steps=2"


def _plain(name: str) -> str:
    return name.replace("/", "__")


def _split(split: str) -> str:
    """Name a split that poise finds in a folder: the recipe's, or `train_…` where its name says no use."""
    name = split.partition("[")[0]
    known = any(word in name for word in ("train", "test", "validation"))
    return name if known else f"train_{name.replace('.', '_')}_rows"


def _write(folder: Path, split: str, verb: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    first = zlib.crc32(f"{folder.name}/{split}".encode()) % 1000 * ROWS  # no row twice, in whatever split
    lines = [json.dumps(_row(verb, first + number)) + "\n" for number in range(ROWS)]
    (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def _row(verb: str, number: int) -> dict[str, Any]:
    if verb == "cpt":
        return {"text": f"{number} plus one is {number + 1}."}
    asked = {"role": "user", "content": f"{number}?"}
    yes, no = ({"role": "assistant", "content": answer} for answer in ("yes", "no"))
    if verb == "sft":
        return {"messages": [asked, yes]}
    return {"prompt": asked["content"], "chosen": [asked, yes], "rejected": [asked, no]}
