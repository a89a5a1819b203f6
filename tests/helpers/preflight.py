"""Sound rows, a small real tokenizer, and models known by their shape alone: no check reads weights."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from poise.preflight.machine import Machine

SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
                     "num_key_value_heads": 3, "max_position_embeddings": 8192, "tie_word_embeddings": True},
    "smollm2-1.7b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
                     "num_attention_heads": 32, "max_position_embeddings": 8192, "tie_word_embeddings": True},
    "tinyllama-1.1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
                       "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048},
    "mistral-7b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                   "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "max_position_embeddings": 256, "tie_word_embeddings": True},
}  # fmt: skip
"""Llamas of the sizes whose recipes are tried; qwen2.5-0.5b and gpt2 are made with their own architectures."""
WORDS = ("apple", "bread", "cloud", "dream", "eagle", "flame", "grass", "house", "island", "juice", "knife", "lemon",
         "moon", "night", "ocean", "piano", "queen", "river", "stone")  # fmt: skip
SHARED = Path(__file__).parents[3] / "shared" / "data"
ROOMY = Machine("cuda", memory_bytes=4 * 2**40, disk_free_bytes=40 * 2**40)


def text(seed: int, words: int) -> str:
    """Write words that differ with the seed."""
    return " ".join(WORDS[(seed * 7 + step * (3 + seed % 5)) % len(WORDS)] for step in range(words)) + f" {seed}"


def chats(count: int) -> list[dict[str, Any]]:
    """Sound conversations, one in four with a second turn."""
    rows: list[dict[str, Any]] = []
    for n in range(count):
        turns = [("user", f"Write about {text(n, 4)}."), ("assistant", f"It is {text(n + 1, 5 + n % 7)}.")]
        if n % 4 == 0:
            turns += [("user", "And more?"), ("assistant", f"Then {text(n + 2, 4)}.")]
        rows.append({"messages": [{"role": role, "content": content} for role, content in turns]})
    return rows


def chat(question: str, answer: str) -> dict[str, Any]:
    """Return one conversation of a question and an answer."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def pairs(count: int) -> list[dict[str, Any]]:
    """Sound preference pairs, whose chosen answer is the longer one in half of them."""
    return [
        {
            "prompt": f"Write about {text(n, 4)}.",
            "chosen": f"It is {text(n + 1, 4 + n % 7)}.",
            "rejected": f"No idea about {text(n + 3, 4 + (n + 3) % 7)}.",
        }
        for n in range(count)
    ]


def documents(count: int) -> list[dict[str, Any]]:
    """Sound texts."""
    return [{"text": f"{text(n, 40)}. {text(n + 5, 30)}."} for n in range(count)]


def labelled(count: int) -> list[dict[str, Any]]:
    """Sound answers, half of them desirable."""
    return [
        {"prompt": row["prompt"], "completion": row["chosen" if n % 2 else "rejected"], "label": bool(n % 2)}
        for n, row in enumerate(pairs(count))
    ]


def make_tokenizer(folder: Path, corpus: Iterable[str], size: int) -> Any:
    """Save a byte-level BPE tokenizer trained on a corpus."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(corpus, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<|pad|>")
    made.save_pretrained(folder)
    return made


def make_models(folder: Path, tokenizer: Any) -> Path:
    """Write config and tokenizer of every shape; no weights, which no check reads."""
    from transformers import GPT2Config, LlamaConfig, Qwen2Config

    configs: dict[str, Any] = {name: LlamaConfig(vocab_size=len(tokenizer), **shape) for name, shape in SHAPES.items()}
    configs["qwen2.5-0.5b"] = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
        num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    configs["gpt2"] = GPT2Config(vocab_size=len(tokenizer), n_positions=128, bos_token_id=0, eos_token_id=1)
    for name, config in configs.items():
        config.architectures = None
        config.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


def shared_file(name: str) -> Path:
    """Return a real file, or skip where it is absent."""
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not here")
    return SHARED / name


def lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines, packed or not."""
    content = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines()]
