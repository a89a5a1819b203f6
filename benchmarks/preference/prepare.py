"""Write what every arm of a data set reads from disk: rows, a model with its tokenizer, an untrained adapter.

Run in a process of its own, so that the one that starts the workers stays small: a child's peak memory is never below
its parent's.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from preference.measure import RANK, Layout, Work, work_of
from preference.plan import Settings
from preference.shapes import BATCH, FILE, MAX_LENGTH, SHAPES, SPECIAL, VOCABULARY, draw_lengths, pairs, vocabulary

LORA: dict[str, Any] = {"r": RANK, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}  # fmt: skip  # noqa: E501
FILE_MAX_LENGTH = 1024
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with nothing after the stop token: TRL would train on the newline there, poise would not. What lies between
`generation` marks is what TRL trains on in a conversation."""


def prepare(data: str, settings: Settings, folder: Path) -> dict[str, Any]:
    """Fill `folder` with pairs.jsonl, conversations.jsonl, full/ and lora/; return what the table says of them."""
    from poise.train.assemble import MICRO_BATCH_TOKENS

    rows, tokenizer = _file_rows(settings) if data == FILE else _shape_rows(data, settings)
    rendered = {
        "pairs": _write(folder / "pairs.jsonl", rows, tokenizer),
        "conversations": _write(folder / "conversations.jsonl", [_conversation(row) for row in rows], tokenizer),
    }
    parameters, words = _models(settings, tokenizer, folder)
    budget = MICRO_BATCH_TOKENS[settings.device]
    work = {kind: _work(found, budget) for kind, found in rendered.items()}
    longest = max(max(row.sequence_lengths()) for row in rendered["pairs"])
    packed = max(longest, math.ceil(work["conversations"].layout.tokens / len(rows) * BATCH))
    return {
        "rows": len(rows),
        "parameters": parameters,
        "sizes": settings.sizes() | {"vocab_size": words},
        "max_length": FILE_MAX_LENGTH if data == FILE else MAX_LENGTH,
        "longest": longest,
        "packed_length": packed,
        "unshared_tokens": sum(sum(row.sequence_lengths()) for row in rendered["pairs"]),
        **{kind: found.as_json() for kind, found in work.items()},
    }


def _shape_rows(name: str, settings: Settings) -> tuple[list[dict[str, Any]], Any]:
    lengths = draw_lengths(SHAPES[name], settings.seed, tokens=settings.tokens, rows=settings.rows)
    return pairs(lengths, settings.seed), word_tokenizer()


def _file_rows(settings: Settings) -> tuple[list[dict[str, Any]], Any]:
    """Read the file's pairs, whole batches of the first ones up to the tokens asked for, 0 meaning all."""
    from poise.examples import PreferencePair, to_json
    from poise.sources import SourceSpec, load

    found = load(SourceSpec(str(settings.file)), on_bad_row="drop").examples
    kept = [pair for pair in found if isinstance(pair, PreferencePair) and len(pair.chosen) == len(pair.rejected) == 1]
    rows = [{key: to_json(pair)[key] for key in ("prompt", "chosen", "rejected")} for pair in kept]
    tokenizer = _trained_tokenizer(rows)
    sizes = [[len(_ids(tokenizer, row["prompt"] + row[side])) for side in ("chosen", "rejected")] for row in rows]
    fitting = [index for index, size in enumerate(sizes) if max(size) <= FILE_MAX_LENGTH]
    count = settings.rows or _whole_batches([sum(sizes[index]) for index in fitting], settings.tokens)
    return [rows[index] for index in fitting[:count]], tokenizer


def _whole_batches(sizes: Sequence[int], tokens: int) -> int:
    if not tokens:
        return len(sizes)
    rows = total = 0
    while rows < len(sizes) and (total < tokens or rows < 2 * BATCH or rows % BATCH):
        total += sizes[rows]
        rows += 1
    return rows


def _ids(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)


def _conversation(row: dict[str, Any]) -> dict[str, Any]:
    return {"messages": row["prompt"] + row["chosen"]}


def _write(file: Path, rows: Sequence[dict[str, Any]], tokenizer: Any) -> list[Any]:
    """Write the rows and return them as poise renders them."""
    from poise.batch.render import Renderer
    from poise.batch.row import Row
    from poise.batch.tokens import prepare_tokenizer
    from poise.sources import SourceSpec, load

    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    renderer = Renderer(prepare_tokenizer(tokenizer, TEMPLATE), MAX_LENGTH)
    rendered = list(renderer.rows(load(SourceSpec(str(file)), on_bad_row="error").examples))
    refused = [row for row in rendered if not isinstance(row, Row)]
    if refused:
        raise ValueError(f"{file.name}: {len(refused)} rows cannot be trained on: {refused[0]}")
    return rendered


def _work(rows: Sequence[Any], budget: int) -> Work:
    from poise.batch.batch import make_batch

    layouts: list[Layout] = []
    for row in rows:
        batch = make_batch([row])
        layouts.append(Layout.of(batch.layout.lengths, batch.layout.ancestors, batch.trained_tokens))
    return work_of(layouts, BATCH, budget)


def word_tokenizer() -> Any:
    """Return the tokenizer of the shapes: every word is a token, space is none."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel(vocabulary(), unk_token="<|unk|>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.decoder = decoders.WordPiece(prefix="##")
    return _fast(inner, unk_token="<|unk|>")


def _trained_tokenizer(rows: Sequence[dict[str, Any]]) -> Any:
    """Byte-level BPE of 4,096 tokens over the rows themselves."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator((turn["content"] for row in rows for turns in row.values() for turn in turns), bpe)
    return _fast(inner)


def _fast(inner: Any, **more: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    from poise.batch.tokens import prepare_tokenizer

    special = [token for token in SPECIAL if token != "<|unk|>" or more]
    inner.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|pad|>", **more)
    return prepare_tokenizer(tokenizer, TEMPLATE).tokenizer


def _models(settings: Settings, tokenizer: Any, folder: Path) -> tuple[int, int]:
    """Write a Llama of random weights and an adapter on it; return its parameters and its words."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(settings.seed)
    fields: dict[str, Any] = {"vocab_size": len(tokenizer), "max_position_embeddings": MAX_LENGTH, "bos_token_id": None}
    fields |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id} | settings.sizes()
    config = LlamaConfig(**fields)
    model = LlamaForCausalLM(config)
    parameters = model.num_parameters()
    model.save_pretrained(folder / "full")
    tokenizer.save_pretrained(folder / "full")
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **LORA)).save_pretrained(str(folder / "lora"))
    adapter = folder / "lora" / "adapter_config.json"
    adapter.write_text(json.dumps({**json.loads(adapter.read_text()), "base_model_name_or_path": str(folder / "full")}))
    tokenizer.save_pretrained(folder / "lora")
    return parameters, config.vocab_size
