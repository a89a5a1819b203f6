"""A real model and tokenizer small enough to train within a test, and rows for it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WORDS = ("apple", "bread", "cloud", "dream", "eagle", "flame", "grass", "house", "island", "juice", "knife", "lemon",
         "moon", "night", "ocean", "piano", "queen", "river", "stone", "tiger")  # fmt: skip
FRAMES = ("Say {}", "Please say {}")
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")


def make_tokenizer(folder: Path, *, eos: str | None, pad: str | None, specials: Iterable[str] = SPECIALS) -> Path:
    """Save a byte-level BPE tokenizer whose words are single tokens; eos and pad are as given, None leaves them out."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    named = {"eos_token": eos, "pad_token": pad}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{key: name for key, name in named.items() if name})
    made.save_pretrained(folder)
    return folder


def make_model(folder: Path, *, vocabulary: int, seed: int = 0, **config: Any) -> Path:
    """Save an untrained Llama of about 90,000 parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    LlamaForCausalLM(LlamaConfig(**sizes | config)).save_pretrained(folder)
    return folder


def make_base(
    folder: Path,
    *,
    eos: str | None = "<|endoftext|>",
    pad: str | None = "<|pad|>",
    specials: Iterable[str] = SPECIALS,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Save tokenizer and model into one folder, as a base model on the Hub is."""
    from transformers import AutoTokenizer

    make_tokenizer(folder, eos=eos, pad=pad, specials=specials)
    return make_model(folder, vocabulary=len(AutoTokenizer.from_pretrained(folder)), seed=seed, **config)


def copy_rows() -> list[dict[str, Any]]:
    """Conversations whose answer repeats the one or two words of the question."""
    singles = [(word,) for word in WORDS]
    doubles = [(word, WORDS[(index * 7 + 3) % len(WORDS)]) for index, word in enumerate(WORDS)]
    return [
        conversation(frame.format(" and ".join(words)), " and ".join(words))
        for words in (*singles, *doubles)
        for frame in FRAMES
    ]


def conversation(question: str, answer: str) -> dict[str, Any]:
    """Return one row of a chat file."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def uneven_rows(count: int = 16) -> list[dict[str, Any]]:
    """Conversations of very different lengths."""
    return [conversation(f"Say {_run(i, 1 + i * 5 % 7)}", _run(i, 1 + i * 3 % 11)) for i in range(count)]


def uneven_pairs(count: int = 16) -> list[dict[str, Any]]:
    """Preference pairs of very different lengths."""
    return [
        {
            "prompt": f"Say {_run(i, 1 + i * 5 % 7)}",
            "chosen": _run(i, 1 + i * 3 % 11),
            "rejected": _run(i + 5, 1 + i % 6),
        }
        for i in range(count)
    ]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(**values: Any) -> list[str]:
    """Return overrides `key=value` for a short run on the CPU without questions; values replace or add to them."""
    short = {
        "use_cpu": True,
        "question_count": 0,
        "max_length": 128,
        "chat_template": "chatml",
        "logging_steps": 1,
        "save_strategy": "no",
        "reference_cache": False,
        "warmup_steps": 0,
    }
    return [f"{key}={json.dumps(value) if not isinstance(value, str | Path) else value}"
            for key, value in (short | values).items()]  # fmt: skip


def _run(start: int, length: int) -> str:
    return " ".join(WORDS[(start + step * 3) % len(WORDS)] for step in range(length))


def _texts() -> list[str]:
    frames = [frame.format(f"{word} and {word}") for frame in FRAMES for word in WORDS]
    return [*frames, *WORDS, "user\n", "assistant\n", "system\n"] * 3
