"""A finished run written by hand, whose evidence is what its reader says it is."""

import json
import shutil
from pathlib import Path
from typing import Any


def write_json(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def make_run(folder: Path, made_from: Path, **changes: Any) -> Path:
    """Write a finished run by hand: its evidence is what the tests below say it is."""
    shutil.copytree(made_from, folder / "model")
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    prompt = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    (folder / "model" / "chat_template.jinja").write_text(template + prompt, encoding="utf-8")
    write_json(folder / "model" / "generation_config.json", {"eos_token_id": 5})
    manifest: dict[str, Any] = {
        "verb": "dpo", "status": "done", "poise": "0.1.0", "command": "poise dpo recipe.yaml", "seconds": 61.0,
        "objective": {"beta": 0.1}, "optimizer_steps": 12, "tokens_seen": 3456, "processes": 1,
        "model": {"name": "nobody/base", "parameters": 1000, "trainable_parameters": 10, "tuning": "LoRA",
                  "dtype": "float32", "weights_sha256": "a" * 64},
        "data": {"rows": 40, "tokens": 4000, "trained_tokens": 1500, "sha256": "b" * 64,
                 "token_histogram": {"edges": [3, 77], "counts": [40]}, "sources": {"pairs.jsonl": 44}},
        "machine": {"device": "x86_64", "cores": 2, "memory_bytes": 2**34}, "versions": {"torch": "2.13.0"},
    }  # fmt: skip
    write_json(folder / "manifest.json", manifest | changes)
    counts = {"in": 44, "used": 40, "dropped": {"too long": 3, "empty completion": 1}}
    write_json(folder / "ledger.json", counts | {"by_source": {"pairs.jsonl": counts}})
    write_json(
        folder / "evidence.json",
        {"labels": ["before", "after"], "sets": [{"name": "facts", "title": "Facts", "n": 4,
         "scores": {"before": 0.25, "after": 0.75}, "counts": {"before": 1, "after": 3}}]},
    )  # fmt: skip
    samples = [
        {"id": str(index), "set": "facts", "prompt": [{"role": "user", "content": f"question {index}"}],
         "expected": "right", "answers": {
             "before": {"text": f"was {index}", "stopped": True, "score": float(index == 0)},
             "after": {"text": f"is {index}", "stopped": True, "score": float(index != 1)}}}
        for index in range(4)
    ]  # fmt: skip
    (folder / "samples.jsonl").write_text("".join(json.dumps(each) + "\n" for each in samples), encoding="utf-8")
    (folder / "recipe.resolved.yaml").write_text("beta: 0.1  # a default\n", encoding="utf-8")
    return folder
