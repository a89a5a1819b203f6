"""The demo: curate -> cpt -> sft -> dpo -> evaluate -> report, through the same functions every command uses."""

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from poise import progress
from poise.demo.world import World, make_world
from poise.errors import RunError
from poise.examples import to_json
from poise.pipeline.run import run_pipeline
from poise.run import Run, write_whole
from poise.train.model import quiet_libraries

MARKER = "world.json"
PIPELINE = "pipeline.yaml"
RUINOUS_RATE = "2e-3"
"""Learning rate of `--break`: about a hundred times the sound one, a common slip from pretraining recipes."""

LINES = """\
out: {folder}
model: {base}
questions: {questions}
train: {{chat_template: zephyr, max_length: 128, max_new_tokens: 24, per_device_train_batch_size: 16, use_cpu: true,
        logging_steps: 5, save_strategy: "no", reference_cache: false, seed: {seed}}}
stages:
- curate: {{sources: [{{path: {raw}}}], steps: [exact: {{key: row}}, decontaminate: {{benchmarks: [
    {{name: questions, path: {questions}}}]}}]}}
- cpt: {{learning_rate: 2e-3, max_steps: 300, warmup_steps: 10, per_device_train_batch_size: 12}}
- sft: {{learning_rate: 1e-3, max_steps: 400, warmup_steps: 10}}
- dpo: {{learning_rate: {rate}, max_steps: 60, warmup_steps: 6, beta: 0.1}}
- evaluate
"""
"""The whole road, as `poise run` takes it. Curation removes copies and rows that give the test away, of which 20 and 10
were planted."""


def run_demo(folder: Path, *, seed: int, ruin: bool) -> dict[str, Any]:
    """Run the whole road in `folder`; returns what `--json` prints."""
    started = time.monotonic()
    _claim(folder)
    progress.say(f"poise demo · everything goes to {folder}/ · no network, no GPU needed")
    world = make_world(seed)
    _write_world(world, folder)
    _make_base_model(folder, seed)
    file = folder / PIPELINE
    write_whole(file, pipeline_text(folder, seed=seed, ruin=ruin))
    result = run_pipeline(file)
    result |= _scores(folder)
    result["seconds"] = round(time.monotonic() - started, 1)
    if not ruin:
        row = f"poise mask {folder}/03-sft/recipe.resolved.yaml"
        progress.say(f"Next: {row} (what was trained) · poise demo --break (a lesson)")
    return result


def _claim(folder: Path) -> None:
    """Take an empty folder or an earlier demo's, never somebody's work."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise RunError(f"{folder} is not empty and not a demo's\n    to do:  name another with --folder")
    folder.mkdir(parents=True, exist_ok=True)


def _write_world(world: World, folder: Path) -> None:
    write_whole(folder / MARKER, json.dumps({"seed": world.seed, "facts": len(world.facts)}) + "\n")
    raw = folder / "raw"
    _write_rows(raw / "documents.jsonl", ({"text": document.text} for document in world.documents()))
    conversations = [to_json(conversation) for conversation in world.conversations()]
    rows = [{"messages": row["messages"]} for row in conversations]
    leaked = [
        {"messages": [_turn("user", question["prompt"]), _turn("assistant", question["expected"])]}
        for question in world.questions()
        if question["set"] == "facts"
    ]
    _write_rows(raw / "conversations.jsonl", [*rows, *rows[:20], *leaked[:10]])
    pairs = (to_json(pair) for pair in world.pairs())
    _write_rows(raw / "pairs.jsonl", ({key: row[key] for key in ("prompt", "chosen", "rejected")} for row in pairs))
    _write_rows(folder / "questions.jsonl", world.questions())


def _turn(role: str, content: object) -> dict[str, str]:
    return {"role": role, "content": str(content)}


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _make_base_model(folder: Path, seed: int) -> None:
    """Build a byte-level BPE tokenizer and an untrained Llama of about a million parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _train_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    quiet_libraries()
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")


def _train_tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=768,
        special_tokens=["<|pad|>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (line for file in sorted((folder / "raw").glob("*.jsonl")) for line in file.read_text().splitlines())
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>")


def pipeline_text(folder: Path, *, seed: int = 0, ruin: bool = False) -> str:
    """Return the road through a folder."""
    names = {"folder": folder, "base": folder / "base", "raw": folder / "raw", "questions": folder / "questions.jsonl"}
    paths = {name: _plain(str(path)) for name, path in names.items()}
    return LINES.format(**paths, seed=seed, rate=RUINOUS_RATE if ruin else "3e-5")


def _plain(text: str) -> str:
    """Write text so that YAML reads it back, in quotes where it is no plain word."""
    return text if re.fullmatch(r"[\w./-]+", text, re.ASCII) and not text.startswith("-") else json.dumps(text)


def _scores(folder: Path) -> dict[str, Any]:
    """Return what the evaluation and the last reward curve say."""
    (evaluated,) = folder.glob("*-evaluate")
    (preferred,) = folder.glob("*-dpo")
    scores = {each["name"]: each["scores"] for each in Run(evaluated).evidence()["sets"]}
    steps = [line for line in Run(preferred).metrics() if "rewards/accuracies" in line]
    return {**scores, "reward_accuracy": steps[-1]["rewards/accuracies"]}
