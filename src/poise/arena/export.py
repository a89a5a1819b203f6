"""Votes as preference pairs: a folder that `poise dpo` trains on, split by prompt, and what became of every vote.

{"prompt": [{"role": "user", "content": "…"}], "chosen": [{"role": "assistant", "content": "…"}], "rejected": […],
 "votes": 2, "against": 0}
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poise.arena.contestants import key_of
from poise.arena.store import Vote
from poise.curate.selection import split
from poise.errors import RunError
from poise.run import write_whole

CUT_OFF = "the better answer was cut off at the limit"


def export(votes: Sequence[Vote], out: Path, *, test: float, seed: int) -> dict[str, Any]:
    """Write `train.jsonl` and `test.jsonl`; returns how many pairs each has, and why votes made none.

    Raises:
        RunError: no vote makes a pair.
    """
    left_out: Counter[str] = Counter()
    pairs: list[tuple[str, dict[str, Any]]] = []
    for (key, *_), given in _meetings(votes).items():
        pair = _pair(given)
        if isinstance(pair, str):
            left_out[pair] += len(given)
        else:
            pairs.append((key, pair))
    if not pairs:
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        more = "answer anew with a larger --max-new-tokens" if left_out[CUT_OFF] else "vote on more prompts"
        raise RunError(f"no vote makes a pair: {told}\n    to do:  {more}")
    keys = [key for key, _ in pairs]
    held = split(keys, keys, test, seed) if test and len(set(keys)) > 1 else [False] * len(keys)
    parts = {
        "train": [pair for (_, pair), out_ in zip(pairs, held, strict=True) if not out_],
        "test": [pair for (_, pair), out_ in zip(pairs, held, strict=True) if out_],
    }
    for name, rows in parts.items():
        file = out / f"{name}.jsonl"
        if rows:
            write_whole(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        else:
            file.unlink(missing_ok=True)
    return {
        "folder": str(out),
        "votes": len(votes),
        "pairs": {name: len(rows) for name, rows in parts.items()},
        "used": len(votes) - left_out.total(),
        "left_out": dict(left_out),
    }


def _meetings(votes: Sequence[Vote]) -> dict[tuple[str, ...], list[Vote]]:
    """Group votes on the same two answers to one prompt: those of several voters, and of a battle shown again."""
    found: dict[tuple[str, ...], list[Vote]] = {}
    for vote in votes:
        texts = sorted((vote.left.text, vote.right.text))
        found.setdefault((key_of(vote.battle.question), *texts), []).append(vote)
    return found


def _pair(votes: Sequence[Vote]) -> dict[str, Any] | str:
    """Make a pair of the verdict of most; where there is none, say why."""
    asked = votes[0].battle.question
    for_text = Counter(
        (vote.left if vote.verdict == "left" else vote.right).text for vote in votes if vote.winner is not None
    )
    if not for_text:
        return "both bad" if any(vote.verdict == "both_bad" for vote in votes) else "tie"
    (chosen, most), *others = for_text.most_common()
    against = sum(count for _, count in others)
    if most == against:
        return "votes against each other"
    vote = next(each for each in votes if each.winner is not None)
    winner, loser = (vote.left, vote.right) if vote.left.text == chosen else (vote.right, vote.left)
    if not asked.prompt:
        return "a text to go on with, not a prompt"
    if not winner.text.strip() or not loser.text.strip():
        return "an empty answer"
    if not winner.stopped:
        return CUT_OFF
    return {
        "prompt": [{"role": turn.role, "content": turn.content} for turn in asked.prompt],
        "chosen": [{"role": "assistant", "content": winner.text}],
        "rejected": [{"role": "assistant", "content": loser.text}],
        "votes": most,
        "against": against,
    }


def told(exported: dict[str, Any]) -> str:
    """Say what was written, and how to train on it."""
    pairs, folder = exported["pairs"], exported["folder"]
    made = f"{pairs['train']} pairs to train on, {pairs['test']} to test"
    lines = [f"{exported['used']} of {exported['votes']} votes make {made}"]
    lines += [f"  left out: {count} {reason}" for reason, count in exported["left_out"].items()]
    return "\n".join([*lines, f"folder: {folder}", f"next:   poise dpo RECIPE dataset_name={folder}"])
