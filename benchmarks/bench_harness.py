"""Score multiple choice by poise's harness model and by the harness's own HFLM: the same answers, and how much faster?

    python benchmarks/bench_harness.py                      100 questions a task, one thread, HFLM in batches of 16
    python benchmarks/bench_harness.py --questions 12 --out x.json

A Llama of four layers and about 4 million parameters is trained for some steps on the facts that the tasks ask for, in
float32. The tasks are lm-evaluation-harness's in form and length: mmlu's (5 shots, the same before every question, four
letters), hellaswag's (10 shots of each question's own, four long endings), arc's (25 shots of its own, and none; four
short endings). Both are given the same requests, in one process, one after the other, wall and CPU; the first requests
are warm-up. Tokenizing is part of both.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from poise.evaluate.harness import PrefixSharing

LETTERS = "ABCD"
PLACES = ("Arduia", "Belmora", "Castren", "Dovania", "Elmwick", "Farosse", "Galdor", "Hestia")
THINGS = ("river", "tower", "bridge", "market", "garden", "museum", "harbour", "library")
KINDS = ("oldest", "longest", "quietest", "brightest", "newest", "smallest", "widest", "tallest")
NAMES = [first + last for first in ("Mir", "Tor", "Vel", "Sar", "Kel", "Lun", "Bor", "Zan") for last in
         ("tport", "dale", "wick", "mere", "ford", "stead", "holm", "gate")]  # fmt: skip
PROMPTS = {
    "mmlu_like": {
        "doc_to_text": "{{question}}\n"
        + "".join(f"{each}. {{{{choices[{n}]}}}}\n" for n, each in enumerate(LETTERS))
        + "Answer:",
        "doc_to_choice": list(LETTERS), "num_fewshot": 5, "fewshot_config": {"sampler": "first_n"},
        "description": "The following are multiple choice questions (with answers) about towns.\n\n",
    },
    "hellaswag_like": {"doc_to_text": "{{question}}", "doc_to_choice": "{{choices}}", "num_fewshot": 10},
    "arc_like": {"doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_choice": "{{choices}}", "num_fewshot": 25},
    "arc_like_0": {"doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_choice": "{{choices}}", "num_fewshot": 0},
}  # fmt: skip


def make_rows(task: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Ask for the names of things; a hellaswag-like question is a story with long endings."""
    draw = random.Random(f"{task} {seed}")
    rows: list[dict[str, Any]] = []
    for _ in range(count):
        place, thing, kind = draw.choice(PLACES), draw.choice(THINGS), draw.choice(KINDS)
        answer = draw.randrange(4)
        names = draw.sample(NAMES, 4)
        names[answer] = truth(place, thing, kind)
        question, choices = ask(task, draw, place, thing, kind, names)
        rows.append({"question": question, "choices": choices, "answer": answer})
    return rows


def truth(place: str, thing: str, kind: str) -> str:
    """Name a thing."""
    return NAMES[(PLACES.index(place) * 7 + THINGS.index(thing) * 3 + KINDS.index(kind)) % len(NAMES)]


def ask(task: str, draw: random.Random, place: str, thing: str, kind: str, names: list[str]) -> tuple[str, list[str]]:
    """Write a question of the length that the task has, and its choices."""
    if task.startswith("hellaswag"):
        story = (
            f"A visitor walks through {place} on a {draw.choice(KINDS)} morning. She asks at the {draw.choice(THINGS)} "
            f"where the {kind} {thing} is, and an old man points down the street past the {draw.choice(THINGS)}. She"
        )
        endings = [f"thanks him, follows the street for a while and at last comes to {name}, the {kind} {thing} "
                   f"of {place}." for name in names]  # fmt: skip
        return story, endings
    if task.startswith("mmlu"):
        return (
            f"A guide leads a group through the town of {place}, past the {draw.choice(THINGS)} and the "
            f"{draw.choice(THINGS)}, and tells them which {thing} there is the {kind}. What is it called?"
        ), names
    question = f"In {place}, where is the {kind} {thing} that visitors of the town go to see?"
    return question, [f"in {name} behind the {draw.choice(KINDS)} {draw.choice(THINGS)}" for name in names]


def make_model(steps: int) -> tuple[Any, Any]:
    """Train a byte-pair tokenizer and a model on the facts."""
    facts = [f"The {kind} {thing} of {place} is {truth(place, thing, kind)}." for place in PLACES for thing in THINGS
             for kind in KINDS]  # fmt: skip
    rows = {task: make_rows(task, 200, 9) for task in PROMPTS}
    texts = facts + [f"{row['question']} {row['choices'][row['answer']]}" for each in rows.values() for row in each]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<pad>"]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(wrapped), hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=4096, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    draw = random.Random(0)
    for _ in range(steps):
        batch = wrapped([" ".join(draw.sample(texts, 3)) + "</s>" for _ in range(8)], return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), wrapped


def make_tasks(folder: Path, questions: int) -> TaskManager:
    """Write each task as the harness reads it, with local rows."""
    for task, prompt in PROMPTS.items():
        files: dict[str, str] = {}
        for split, count, seed in (("validation", questions, 1), ("train", 40, 2)):
            path = folder / f"{task}_{split}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in make_rows(task, count, seed)))
            files[split] = str(path)
        written = {
            "task": task, "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "doc_to_target": "answer",
            "output_type": "multiple_choice", "validation_split": "validation", "fewshot_split": "train", **prompt,
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        }  # fmt: skip
        (folder / f"{task}.yaml").write_text(yaml.safe_dump(written))
    return TaskManager(include_path=str(folder), include_defaults=False)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what was made, and the wall and CPU seconds it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    return made, time.perf_counter() - wall, time.process_time() - cpu


class Recorder(HFLM):
    """HFLM, which keeps the requests that a task makes and what it answers."""

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Answer, silently."""
        self.requests = requests
        return super().loglikelihood(requests, disable_tqdm=True)


def measure(task: str, manager: TaskManager, rival: Recorder, ours: PrefixSharing) -> dict[str, Any]:
    """Give both the requests of one task."""
    simple_evaluate(rival, tasks=[task], task_manager=manager, bootstrap_iters=0, limit=1)
    ours.loglikelihood(rival.requests)
    made = manager.load([task])["tasks"][task]
    made.set_fewshot_seed(seed=1234)
    made.build_all_requests(rank=0, world_size=1)
    requests = made.instances
    theirs, their_wall, their_cpu = timed(lambda: rival.loglikelihood(requests))
    ours.computed = ours.asked = 0
    found, wall, cpu = timed(lambda: ours.loglikelihood(requests))
    four = range(0, len(found), 4)
    choices = [
        (max(range(4), key=lambda k: theirs[n + k][0]), max(range(4), key=lambda k: found[n + k][0])) for n in four
    ]
    return {
        "questions": len(found) // 4,
        "tokens_asked": ours.asked,
        "tokens_computed": ours.computed,
        "same_choices": sum(one == other for one, other in choices),
        "same_greedy": all(one[1] == other[1] for one, other in zip(theirs, found, strict=True)),
        "largest_difference": max(abs(one[0] - other[0]) for one, other in zip(theirs, found, strict=True)),
        "hflm_s": round(their_wall, 2),
        "poise_s": round(wall, 2),
        "hflm_cpu_s": round(their_cpu, 2),
        "poise_cpu_s": round(cpu, 2),
        "ratio_wall": round(their_wall / wall, 2),
        "ratio_cpu": round(their_cpu / cpu, 2),
    }


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--task", action="append")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = make_model(options.steps)
    rival = Recorder(pretrained=model, tokenizer=tokenizer, batch_size=options.batch)
    ours = PrefixSharing(model, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        manager = make_tasks(Path(folder), options.questions)
        load = os.getloadavg()[0]
        tasks = {task: measure(task, manager, rival, ours) for task in options.task or PROMPTS}
    found = {
        "hflm_batch": options.batch,
        "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
        "tasks": tasks,
    }
    print(json.dumps(found, indent=2))
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
