"""How near `poise plan --probe` comes to the run it forecasts, on five recipes with rows of very uneven length.

    python benchmarks/forecast_check.py [--rows 400] [--recipes dpo-lora,cpt] [--json]

Every probe and every run is a process of its own. Rows are invented: words of a fixed list, lengths drawn from a
log-normal distribution. Run it on a quiet machine: what another process takes during one of the two is an error here.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SEED = 7
VOCABULARY = 2048
WITHIN = {"seconds": 0.20, "peak_memory_bytes": 0.15}
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "ve", "zo")


@dataclass(frozen=True)
class Case:
    """One recipe: its verb, its model and what it says besides."""

    verb: str
    width: int
    layers: int
    rows: float
    """Rows for each of `--rows`."""
    words: tuple[float, float]
    """Median of an answer's words, and sigma of their logarithm."""
    keys: dict[str, Any] = field(default_factory=dict[str, Any])


CASES = {
    "sft-packed": Case("sft", 128, 4, 2.0, (40, 0.9), {"packing": True, "max_length": 512, "num_train_epochs": 2}),
    "dpo-lora": Case("dpo", 192, 4, 1.0, (50, 0.8), {"use_peft": True, "lora_target_modules": "all-linear"}),
    "dpo-full": Case("dpo", 96, 3, 1.0, (25, 1.1), {"num_train_epochs": 2, "per_device_train_batch_size": 16}),
    "orpo-lora": Case("orpo", 256, 2, 0.7, (30, 1.0), {"use_peft": True, "per_device_train_batch_size": 32,
                      "tokens_per_micro_batch": 2048, "question_count": 16}),
    "cpt": Case("cpt", 256, 6, 0.5, (400, 0.7), {"max_length": 1024, "per_device_train_batch_size": 4,
                "save_strategy": "steps", "save_steps": 20}),
}  # fmt: skip


def main() -> None:
    """Probe and run every case; print both and the errors."""
    options = _options()
    cells: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.recipes.split(","):
            cells[name] = check(CASES[name], Path(folder) / name, options.rows)
            print(f"{name:12} {_line(cells[name])}", file=sys.stderr, flush=True)
    held = all(abs(cell["errors"][what]) <= limit for cell in cells.values() for what, limit in WITHIN.items())
    result = {"benchmark": "forecast", "rows": options.rows, "hardware": _hardware(), "cells": cells, "held": held}
    print(json.dumps(result) if options.json else f"{'all' if held else 'not all'} within {WITHIN}")


def check(case: Case, folder: Path, rows: int) -> dict[str, Any]:
    """Return forecast, fact and relative errors of one case."""
    recipe = _prepare(case, folder, int(rows * case.rows))
    environment = {**os.environ, "POISE_CACHE": str(folder / "cache"), "CI": "1"}
    planned = _poise(["plan", str(recipe), "--verb", case.verb, "--probe", "--json"], environment)
    _poise([case.verb, str(recipe), "--json"], environment)
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    metrics = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    forecast = {what: planned["forecast"][what] for what in WITHIN}
    fact = {
        "seconds": manifest["seconds"],
        "peak_memory_bytes": max(line["peak_memory_bytes"] for line in metrics if "peak_memory_bytes" in line),
    }
    steps = sum(line["seconds"] for line in metrics if "loss" in line)
    return {
        "parameters": manifest["model"]["parameters"],
        "optimizer_steps": manifest["optimizer_steps"],
        "forecast": forecast,
        "fact": fact,
        "errors": {what: forecast[what] / fact[what] - 1 for what in WITHIN},
        "parts": planned["forecast"]["parts"],
        "seconds_in_steps": steps,
    }


def _prepare(case: Case, folder: Path, rows: int) -> Path:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    chance = random.Random(SEED)
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 3))) for _ in range(600)]

    def text(scale: float) -> str:
        length = int(min(900, 3 + case.words[0] * scale * chance.lognormvariate(0, case.words[1])))
        return " ".join(chance.choices(words, k=length))

    made = [_row(case.verb, text) for _ in range(rows)]
    folder.mkdir(parents=True)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in made))
    _tokenizer(words).save_pretrained(folder / "base")
    size = len(AutoTokenizer.from_pretrained(folder / "base"))
    LlamaForCausalLM(LlamaConfig(
        vocab_size=size, hidden_size=case.width, intermediate_size=case.width * 8 // 3, num_attention_heads=8,
        num_key_value_heads=4, num_hidden_layers=case.layers, max_position_embeddings=2048, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=2, pad_token_id=0,
    )).save_pretrained(folder / "base")  # fmt: skip
    keys = {
        "model_name_or_path": str(folder / "base"), "chat_template": "chatml", "dataset_name": str(data),
        "output_dir": str(folder / "run"), "max_length": 1024, "use_cpu": True, "logging_steps": 5,
        "save_strategy": "no", "question_count": 4, **case.keys,
    }  # fmt: skip
    recipe = folder / "recipe.yaml"
    recipe.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in keys.items()))
    return recipe


def _row(verb: str, text: Any) -> dict[str, Any]:
    if verb == "cpt":
        return {"text": text(1)}
    if verb == "sft":
        turns = [{"role": "user", "content": text(0.5)}, {"role": "assistant", "content": text(1)}]
        return {"messages": turns}
    return {"prompt": text(1), "chosen": text(1), "rejected": text(0.8)}


def _tokenizer(words: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([" ".join(words)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|pad|>")


def _poise(arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "poise", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"poise {' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _hardware() -> dict[str, Any]:
    from importlib.metadata import version

    import torch

    versions = {name: version(name) for name in ("poise", "transformers", "torch", "peft")}
    return {"machine": platform.processor() or platform.machine(), "threads": torch.get_num_threads(), **versions}


def _line(cell: dict[str, Any]) -> str:
    told = {what: (cell["forecast"][what], cell["fact"][what], cell["errors"][what]) for what in WITHIN}
    seconds, memory = told["seconds"], told["peak_memory_bytes"]
    return (
        f"{seconds[0]:7.1f} s forecast {seconds[1]:7.1f} s taken ({seconds[2]:+.0%})   "
        f"{memory[0] / 2**20:6,.0f} MiB forecast {memory[1] / 2**20:6,.0f} MiB taken ({memory[2]:+.0%})"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400, help="rows of each recipe, times a factor of its own")
    parser.add_argument("--recipes", default=",".join(CASES), help="which, comma-separated")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
