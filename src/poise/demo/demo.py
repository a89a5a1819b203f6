"""The demo: curate -> cpt -> sft -> dpo -> evaluate -> report, through the same functions every command uses."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from poise import progress
from poise.curate.curation import Curation
from poise.curate.entry import SourceEntry
from poise.curate.pipeline import curate
from poise.demo.world import World, make_world
from poise.errors import RunError
from poise.evaluate.questions import load_questions
from poise.examples import to_json
from poise.recipe import load_recipe
from poise.report.report import build_report
from poise.run import Run, write_whole
from poise.train.model import quiet_libraries
from poise.train.train import train
from poise.workflow import Evidence, tell, told, write_evidence

MARKER = "world.json"
STAGES = ("cpt", "sft", "dpo")
RUINOUS_RATE = "2e-3"
"""Learning rate of `--break`: about a hundred times the sound one, a common slip from pretraining recipes."""

SHARED = {
    "chat_template": "zephyr",
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 1,
    "max_length": 128,
    "max_new_tokens": 24,
    "logging_steps": 5,
    "save_strategy": "no",
    "use_cpu": True,
}
RECIPES: dict[str, dict[str, Any]] = {
    "cpt": {"learning_rate": "2e-3", "max_steps": 300, "warmup_steps": 10, "per_device_train_batch_size": 12},
    "sft": {"learning_rate": "1e-3", "max_steps": 400, "warmup_steps": 10},
    "dpo": {"learning_rate": "3e-5", "max_steps": 60, "warmup_steps": 6, "beta": 0.1, "reference_cache": False},
}


def run_demo(folder: Path, *, seed: int, ruin: bool) -> dict[str, Any]:
    """Run the whole road in `folder`; returns what `--json` prints."""
    started = time.monotonic()
    _claim(folder)
    progress.say(f"poise demo · everything goes to {folder}/ · no network, no GPU needed")
    world = make_world(seed)
    _write_world(world, folder)
    _curate(folder)
    _make_base_model(folder, seed)
    for verb in STAGES:
        _write_recipe(verb, folder, seed, ruin)
        recipe = load_recipe(verb, folder / "recipes" / f"{verb}.yaml")
        run = Run(folder / verb)
        train(recipe, run, overwrite=True, ask=Evidence(recipe, run))
    result = _evaluate(folder)
    result["seconds"] = round(time.monotonic() - started, 1)
    if not ruin:
        progress.say(f"Next: poise mask {folder}/recipes/sft.yaml (what was trained) · poise demo --break (a lesson)")
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


def _curate(folder: Path) -> None:
    """Remove copies and rows that give the test away; 20 and 10 of them were planted."""
    for name in ("documents", "conversations", "pairs"):
        questions = {"name": "questions", "path": str(folder / "questions.jsonl")}
        curate(
            Curation(
                out=str(folder / "data" / name),
                sources=(SourceEntry(path=str(folder / "raw" / f"{name}.jsonl"), on_bad_row="drop"),),
                steps=({"exact": {"key": "row"}}, {"decontaminate": {"benchmarks": [questions]}}),
            )
        )


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


def _write_recipe(verb: str, folder: Path, seed: int, ruin: bool) -> None:
    """Write the stage's recipe, which `poise <verb>` runs as it stands."""
    before = {"cpt": folder / "base", "sft": folder / "cpt" / "model", "dpo": folder / "sft" / "model"}[verb]
    rows = {"cpt": "documents", "sft": "conversations", "dpo": "pairs"}[verb]
    values: dict[str, Any] = {
        "model_name_or_path": str(before),
        "dataset_name": str(folder / "data" / rows),
        "questions": str(folder / "questions.jsonl"),
        "output_dir": str(folder / verb),
        **SHARED,
        **RECIPES[verb],
        "seed": seed,
    }
    if ruin and verb == "dpo":
        values["learning_rate"] = RUINOUS_RATE
    lines = "".join(f"{key}: {json.dumps(value) if not _is_rate(key) else value}\n" for key, value in values.items())
    write_whole(folder / "recipes" / f"{verb}.yaml", lines)


def _is_rate(key: str) -> bool:
    return key == "learning_rate"


def _evaluate(folder: Path) -> dict[str, Any]:
    """Lay the untrained model, the SFT model and the DPO model side by side."""
    questions = load_questions(folder / "questions.jsonl")
    kept = {"before": ("cpt", "before"), "sft": ("sft", "after"), "dpo": ("dpo", "after")}
    answers = {
        label: Evidence(load_recipe(verb, folder / "recipes" / f"{verb}.yaml"), Run(folder / verb)).read(moment)
        for label, (verb, moment) in kept.items()
    }
    evidence = write_evidence(folder, questions, answers)
    report = folder / "report.html"
    verdict = build_report([folder / verb for verb in STAGES], report, title="poise demo", evidence=folder)
    tell(verdict)
    progress.say(f"report: {report}")
    steps = [line for line in Run(folder / "dpo").metrics() if "rewards/accuracies" in line]
    scores = {each["name"]: each["scores"] for each in evidence["sets"]}
    return {
        **scores,
        "reward_accuracy": steps[-1]["rewards/accuracies"],
        **told(verdict),
        "report": str(report),
    }
