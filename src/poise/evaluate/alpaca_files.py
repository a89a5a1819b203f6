"""Answers in alpaca_eval's format: an evaluation set with the baseline's outputs, or a model's.

{"instruction": "…", "output": "…", "generator": "gpt4_1106_preview", "dataset": "koala"}
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from poise.errors import DataError
from poise.evaluate.journal import content_key
from poise.run import write_whole


def read_outputs(path: Path) -> list[dict[str, str]]:
    """Read a list of answers, JSON or JSON lines; every row has an instruction and an output."""
    try:
        text = path.read_text(encoding="utf-8")
        rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in _lines(text)]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error})\n    to do:  give a JSON list, or JSON lines") from None
    for number, row in enumerate(rows, start=1):
        wanted = [row.get(key) for key in ("instruction", "output")] if isinstance(row, dict) else [None]
        if not all(isinstance(value, str) for value in wanted):
            raise DataError(
                f"{path}: row {number} has no instruction and output\n"
                '    to do:  write {"instruction": "…", "output": "…"}, as alpaca_eval does'
            )
    if not rows:
        raise DataError(f"{path} holds no row")
    return rows


def write_outputs(path: Path, model: str, baseline: Sequence[dict[str, str]], outputs: Sequence[str]) -> None:
    """Write alpaca_eval's `model_outputs.json`."""
    rows = [
        {"dataset": row.get("dataset") or "", "instruction": row["instruction"], "output": output, "generator": model}
        for row, output in zip(baseline, outputs, strict=True)
    ]
    write_whole(path, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")


def names(rows: Sequence[dict[str, str]]) -> list[str]:
    """Name each row by its instruction, the second of equal ones apart from the first."""
    seen: Counter[str] = Counter()
    names: list[str] = []
    for row in rows:
        name = content_key(row["instruction"])[:16]
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]
