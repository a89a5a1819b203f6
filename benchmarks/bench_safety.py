"""What safety costs: a run with poise's checks and sealed checkpoints, against one without, in turns.

    python benchmarks/bench_safety.py [--width 256] [--steps 40] [--save-steps 10] [--turns 3] [--json]

Both arms train the same model on the same rows with the same loop and save as often. `bare` leaves the preflight, the
comparison of ways to score and the look at the disk out, and writes checkpoints as transformers does: pickles, straight
into their folder, unhashed and unsettled. Arms are forked from one process that has everything imported and run in
turns, so that a ratio compares neighbours in time; the figures are medians, CPU seconds and wall seconds.
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = ("apple", "bread", "cloud", "dream", "eagle", "flame", "grass", "house", "island", "juice", "knife", "lemon")
ARMS = ("poise", "bare")
AT_MOST = 1.03


def main() -> None:
    """Measure both arms in turns and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("width", 256), ("steps", 40), ("save-steps", 10), ("rows-per-step", 8), ("turns", 3)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options)
    ratios = {what: _ratio(found, what) for what in ("cpu_seconds", "wall_seconds")}
    if options.json:
        print(json.dumps({"runs": found, "ratios": ratios, "at_most": AT_MOST}))
        return
    for arm in ARMS:
        print(
            f"{arm:6} cpu {_median(found[arm], 'cpu_seconds'):.2f} s  wall {_median(found[arm], 'wall_seconds'):.2f} s"
        )
    print(f"ratio  cpu {ratios['cpu_seconds']:.3f}  wall {ratios['wall_seconds']:.3f}  (at most {AT_MOST})")


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Run the arms in turns, the first turn not counted."""
    base, rows = _make_base(folder / "base", options.width), _make_rows(folder / "rows.jsonl", options)
    _import_all()
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for turn in range(options.turns + 1):
        for arm in ARMS if turn % 2 else ARMS[::-1]:
            taken = _apart(arm, base, rows, folder / "run", options)
            if turn:
                found[arm].append(taken)
    return found


def _apart(arm: str, base: Path, rows: Path, out: Path, options: argparse.Namespace) -> dict[str, float]:
    shutil.rmtree(out, ignore_errors=True)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    child = multiprocessing.get_context("fork").Process(target=_train, args=(arm, base, rows, out, options))
    child.start()
    child.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.exitcode != 0:
        raise SystemExit(f"the arm {arm} failed")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": cpu, "wall_seconds": time.perf_counter() - began}


def _train(arm: str, base: Path, rows: Path, out: Path, options: argparse.Namespace) -> None:
    from poise.recipe import load_recipe
    from poise.run import Run
    from poise.train.train import train

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    keys: dict[str, Any] = {
        "model_name_or_path": str(base),
        "dataset_name": str(rows),
        "output_dir": str(out),
        "chat_template": "chatml",
        "use_cpu": True,
        "question_count": 0,
        "max_steps": options.steps,
        "save_steps": options.save_steps,
        "per_device_train_batch_size": options.rows_per_step,
        "learning_rate": 1e-4,
        "prefix_sharing": "auto" if arm == "poise" else "on",
    }
    if arm == "bare":
        _leave_safety_out()
    train(load_recipe("sft", None, defaults=keys), Run(out))


def _leave_safety_out() -> None:
    from transformers import Trainer

    import poise.train.assemble
    import poise.train.loop
    import poise.train.train
    from poise.train.trainer import PoiseTrainer

    class Bare(PoiseTrainer):
        """poise's Trainer with transformers' checkpoints."""

        _save_checkpoint = Trainer._save_checkpoint
        _save_optimizer_and_scheduler = Trainer._save_optimizer_and_scheduler

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            self.policy().save_pretrained(str(output_dir))  # transformers' own takes this Trainer's model for no model

    poise.train.loop.PoiseTrainer = Bare
    poise.train.train.examine = lambda *_, **__: ()
    poise.train.train.check_space = lambda *_, **__: None
    poise.train.assemble.check_sharing = lambda *_, **__: ""


def _import_all() -> None:
    import peft
    from transformers import LlamaForCausalLM

    import poise.objectives.sft
    import poise.train.train

    assert peft and poise and LlamaForCausalLM


def _make_base(folder: Path, width: int) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*WORDS] * 3, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=specials[0], pad_token=specials[3])
    made.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(made), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _make_rows(file: Path, options: argparse.Namespace) -> Path:
    chance = random.Random(0)

    def text(most: int) -> str:
        return " ".join(chance.choices(WORDS, k=chance.randrange(most // 4, most)))

    with file.open("w", encoding="utf-8") as written:
        for _ in range(options.steps * options.rows_per_step):
            turns = [{"role": "user", "content": text(80)}, {"role": "assistant", "content": text(80)}]
            written.write(json.dumps({"messages": turns}) + "\n")
    return file


def _median(runs: list[dict[str, float]], what: str) -> float:
    return statistics.median(run[what] for run in runs)


def _ratio(found: dict[str, list[dict[str, float]]], what: str) -> float:
    """Return the median of the ratios of neighbours."""
    return statistics.median(ours[what] / bare[what] for ours, bare in zip(found["poise"], found["bare"], strict=True))


if __name__ == "__main__":
    main()
