"""Preference training, poise against TRL: same model, rows, order, batch, optimizer and dtype, in one run.

    python benchmarks/bench_preference.py --data harmless-base-sample.jsonl.gz [--json]

Every arm is a process of its own that reads the rows and the model from disk, trains one epoch of DPO and saves, timed
after its imports. TRL runs with its defaults (batch 8, activation checkpointing, reference computed on the fly) and
with the flags that make it fastest here (reference precomputed, no checkpointing). All arms run in float32.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ARMS = ("poise", "trl", "trl-best")
TUNINGS = ("lora", "full")
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}  # fmt: skip  # noqa: E501
RATES = {"lora": 5e-5, "full": 5e-6}
BATCH, BETA, SEED, MAX_LENGTH = 8, 0.1, 42, 1024
LAYERS, HEADS, WIDTH = 6, 8, 128
VOCABULARY = 4096
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with nothing after the stop token: TRL would train on the newline there, poise would not."""


def main() -> None:
    """Prepare, run every arm, print the table."""
    options = _options()
    if options.worker:
        print(json.dumps(_work(options.worker, options.tuning, Path(options.folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        facts = prepare(Path(options.data), Path(folder), options.rows, options.width)
        cells = {}
        for tuning in options.tunings.split(","):
            for arm in ARMS:
                cells[f"{arm}/{tuning}"] = _run_worker(arm, tuning, folder)
                print(f"{arm:9} {tuning:5} {_line(cells[f'{arm}/{tuning}'])}", file=sys.stderr, flush=True)
    result = {"benchmark": "preference", **facts, "hardware": _hardware(), "cells": cells, "ratios": ratios(cells)}
    if options.json:
        print(json.dumps(result))
    else:
        print(_table(result))


def prepare(data: Path, folder: Path, rows: int | None, width: int = WIDTH) -> dict[str, Any]:
    """Write one jsonl of pairs that every arm reads, a tokenizer trained on it, a Llama, and an untrained adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from poise.examples import PreferencePair, to_json
    from poise.sources import SourceSpec, load

    found = load(SourceSpec(str(data)), on_bad_row="drop").examples
    pairs = [pair for pair in found if isinstance(pair, PreferencePair) and len(pair.chosen) == len(pair.rejected) == 1]
    keys = ("prompt", "chosen", "rejected")
    lines = [json.dumps({key: to_json(pair)[key] for key in keys}) for pair in pairs]
    tokenizer = _tokenizer(lines)
    fitting = [line for line in lines if _longest(tokenizer, json.loads(line)) <= MAX_LENGTH][:rows]
    (folder / "pairs.jsonl").write_text("".join(line + "\n" for line in fitting))
    sizes = {"hidden_size": width, "intermediate_size": width * 43 // 16}
    sizes |= {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=MAX_LENGTH, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **sizes,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    parameters = model.num_parameters()
    model.save_pretrained(folder / "full")
    tokenizer.save_pretrained(folder / "full")
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **LORA)).save_pretrained(folder / "lora")
    adapter = folder / "lora" / "adapter_config.json"
    adapter.write_text(json.dumps({**json.loads(adapter.read_text()), "base_model_name_or_path": str(folder / "full")}))
    tokenizer.save_pretrained(folder / "lora")
    return {
        "rows": len(fitting),
        "rows_in_file": len(found),
        "parameters": parameters,
        "model": sizes | {"vocab_size": VOCABULARY},
        "batch": BATCH,
        "dtype": "float32",
    }


def ratios(cells: dict[str, Any]) -> dict[str, float]:
    """How many times poise is faster, and how far the first ten losses are apart."""
    found: dict[str, float] = {}
    for tuning in TUNINGS:
        ours = cells.get(f"poise/{tuning}")
        for rival in ("trl", "trl-best"):
            theirs = cells.get(f"{rival}/{tuning}")
            if ours and theirs:
                found[f"{tuning}: {rival} / poise, wall"] = theirs["seconds"] / ours["seconds"]
                found[f"{tuning}: {rival} / poise, peak memory"] = theirs["peak_bytes"] / ours["peak_bytes"]
                first_ten = zip(ours["losses"][:10], theirs["losses"][:10], strict=True)
                found[f"{tuning}: {rival} - poise, loss"] = max(abs(a - b) for a, b in first_ten)
    return found


def _work(arm: str, tuning: str, folder: Path) -> dict[str, Any]:
    import resource

    losses, seconds, tokens, parts = _poise(tuning, folder) if arm == "poise" else _trl(arm, tuning, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "tokens": tokens, "peak_bytes": peak, "losses": losses, **parts}


def _poise(tuning: str, folder: Path) -> tuple[list[float], float, int, dict[str, Any]]:
    import poise.train.train as training
    from poise.recipe import load_recipe
    from poise.run import Run

    run = Run(folder / f"run-{tuning}")
    recipe = load_recipe("dpo", None, defaults={
        "model_name_or_path": str(folder / tuning), "use_peft": tuning == "lora",
        "dataset_name": str(folder / "pairs.jsonl"), "max_length": MAX_LENGTH,
        "output_dir": str(run.path), "learning_rate": RATES[tuning], "beta": BETA, "seed": SEED,
        "per_device_train_batch_size": BATCH, "num_train_epochs": 1, "lr_scheduler_type": "linear", "warmup_steps": 0,
        "logging_steps": 1, "save_strategy": "no", "reference_cache": False, "use_cpu": True,
        "optim": "adamw_torch_fused",
    })  # fmt: skip
    started = time.perf_counter()
    training.train(recipe, run)
    seconds = time.perf_counter() - started
    metrics = [line for line in run.metrics() if "loss" in line]
    steps = sum(line["seconds"] for line in metrics)
    parts = {"reference_seconds": run.manifest["reference"]["seconds"], "step_seconds": steps}
    return [line["loss"] for line in metrics], seconds, metrics[-1]["tokens_seen"], parts


def _trl(arm: str, tuning: str, folder: Path) -> tuple[list[float], float, int, dict[str, Any]]:
    import datasets
    from peft import LoraConfig, load_peft_weights, set_peft_model_state_dict
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    datasets.disable_caching()
    flags = {"precompute_ref_log_probs": True, "gradient_checkpointing": False} if arm == "trl-best" else {}
    arguments = DPOConfig(
        output_dir=str(folder / f"{arm}-{tuning}"), learning_rate=RATES[tuning], beta=BETA, seed=SEED, bf16=False,
        per_device_train_batch_size=BATCH, num_train_epochs=1, logging_steps=1, save_strategy="no", report_to=[],
        disable_tqdm=True, use_cpu=True, max_length=MAX_LENGTH, lr_scheduler_type="linear", warmup_steps=0,
        optim="adamw_torch_fused", **flags,
    )  # fmt: skip
    started = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(folder / "full")
    rows = datasets.load_dataset("json", data_files=str(folder / "pairs.jsonl"), split="train")
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(folder / "full", dtype="float32"),
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA) if tuning == "lora" else None,
    )
    if tuning == "lora":
        set_peft_model_state_dict(trainer.model, load_peft_weights(str(folder / "lora"), device="cpu"))
    tokens = _count_tokens(trainer)
    trainer.train()
    trainer.save_model(str(folder / f"{arm}-{tuning}" / "model"))
    seconds = time.perf_counter() - started
    return [line["loss"] for line in trainer.state.log_history if "loss" in line], seconds, tokens[0], {}


def _count_tokens(trainer: Any) -> list[int]:
    """Count the tokens, padding too, of every batch that is trained on."""
    total, collate = [0], trainer.data_collator

    def counting(rows: list[Any]) -> Any:
        batch = collate(rows)
        total[0] += batch["input_ids"].numel()
        return batch

    trainer.data_collator = counting
    return total


def _tokenizer(lines: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False)  # fmt: skip  # noqa: E501
    texts = (turn["content"] for line in lines for turns in json.loads(line).values() for turn in turns)
    inner.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|pad|>")
    from poise.batch.tokens import prepare_tokenizer

    return prepare_tokenizer(tokenizer, TEMPLATE).tokenizer


def _longest(tokenizer: Any, row: dict[str, Any]) -> int:
    return max(
        len(tokenizer.apply_chat_template(row["prompt"] + row[side], tokenize=True, return_dict=False))
        for side in ("chosen", "rejected")
    )


def _run_worker(arm: str, tuning: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", arm, "--tuning", tuning, "--folder", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "CI": "1"})
    if done.returncode:
        sys.exit(f"{arm}/{tuning} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _hardware() -> dict[str, Any]:
    from importlib.metadata import version

    import torch

    versions = {name: version(name) for name in ("poise", "trl", "transformers", "torch", "peft")}
    return {"machine": platform.processor() or platform.machine(), "threads": torch.get_num_threads(), **versions}


def _line(cell: dict[str, Any]) -> str:
    rate = cell["tokens"] / cell["seconds"]
    memory = cell["peak_bytes"] / 2**20
    return f"{cell['seconds']:7.1f} s  {cell['tokens']:9,} tokens  {rate:7,.0f} tok/s  {memory:6,.0f} MiB"


def _table(result: dict[str, Any]) -> str:
    head = f"{result['rows']} pairs, {result['parameters'] / 1e6:.1f} M parameters, batch {result['batch']}, float32"
    cells = [f"{name:15} {_line(cell)}" for name, cell in result["cells"].items()]
    return "\n".join([head, *cells, *(f"{name:40} {value:.3g}" for name, value in result["ratios"].items())])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a file of preference pairs")
    parser.add_argument("--rows", type=int, help="use the first ROWS rows only")
    parser.add_argument("--width", type=int, default=WIDTH, help="hidden size of the model")
    parser.add_argument("--tunings", default=",".join(TUNINGS), help="lora,full")
    parser.add_argument("--json", action="store_true")
    for hidden in ("--worker", "--tuning", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.worker and not options.data:
        parser.error("--data is needed")
    return options


if __name__ == "__main__":
    main()
