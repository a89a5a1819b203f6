"""Curate one source: load, drop copies, drop what gives the test away; every dropped row is in the ledger.

raw file or folder ──load──> Examples ──duplicate──> ──leak──> out/data.jsonl, out/ledger.jsonl, out/ledger.json
"""

import json
from pathlib import Path
from typing import Any

from poise.curate.decontaminate import Leaks
from poise.curate.deduplicate import Copies
from poise.errors import DataError
from poise.examples import Conversation, Document, Example, PreferencePair, RankedAnswers, to_json
from poise.run import Drop, Run, read_lines, write_whole
from poise.sources import SourceSpec, load


def curate(source: Path, out: Path, *, test: Path | None = None) -> dict[str, Any]:
    """Write what is kept of `source` to `out`; returns the ledger's counts. `test` is a file of questions."""
    loaded = load(SourceSpec(str(source)), on_bad_row="drop")
    copies = Copies()
    leaks = Leaks(_asked(test) if test else ())
    kept: list[Example] = []
    drops = list(loaded.drops)
    for example in loaded.examples:
        reason = copies.judge(example) or leaks.judge(example)
        if reason is None:
            kept.append(example)
        else:
            drops.append(Drop("curate", example.source, example.place, reason.phrase, example.id, reason.evidence))
    write_whole(out / "data.jsonl", "".join(json.dumps(_row(example), ensure_ascii=False) + "\n" for example in kept))
    return Run(out).write_ledger(loaded.rows_in, drops)


def _asked(test: Path) -> list[str]:
    """Return what a file of questions asks: each line's text, or the user turns of its prompt."""
    if not test.is_file():
        raise DataError(f"there is no question file {test}\n    why:    what it asks could not be kept out of training")
    prompts = [row.get("prompt") or row.get("text") or "" for row in read_lines(test)]
    turns = [[{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt for prompt in prompts]
    return [turn["content"] for prompt in turns for turn in prompt if turn["role"] == "user"]


def _row(example: Example) -> dict[str, Any]:
    """Return the columns that sources recognise."""
    row = to_json(example)
    if isinstance(example, Document):
        return {"text": example.text}
    if isinstance(example, Conversation):
        return {"messages": row["messages"]}
    if isinstance(example, PreferencePair):
        return {key: row[key] for key in ("prompt", "chosen", "rejected")}
    if isinstance(example, RankedAnswers):
        return {key: row[key] for key in ("prompt", "answers", "ranks")}
    return {"messages": row["messages"], "label": example.desirable}
