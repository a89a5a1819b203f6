"""One stage for a person: train, ask the same questions before and after, write the report."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from poise import progress
from poise.batch.render import Renderer
from poise.batch.row import Row
from poise.evaluate.answer import Answer
from poise.evaluate.generate import answer, compare
from poise.evaluate.questions import Question, load_questions, questions_from
from poise.recipe import Recipe
from poise.report.report import build_report
from poise.report.verdict import Verdict
from poise.run import EVIDENCE, SAMPLES, Run, write_whole
from poise.train.data import Loaded
from poise.train.processes import is_main
from poise.train.train import train

ANSWERS = "answers"
"""Folder of a run with each model's raw answers, so that a resumed run keeps its `before`."""


class Evidence:
    """Ask a model the run's questions and keep what it said."""

    def __init__(self, recipe: Recipe, run: Run) -> None:
        self.recipe, self.run = recipe, run
        file = recipe.poise.questions
        self._given = load_questions(Path(file)) if file else []

    def __call__(self, label: str, model: Any, renderer: Renderer, loaded: Loaded) -> None:
        """Answer and store; after training, lay both side by side."""
        questions = self.questions(loaded, renderer)
        if not questions:
            return
        answers = answer(model, renderer, questions, max_new_tokens=self.recipe.poise.max_new_tokens, label=label)
        self._keep(label, answers)
        if label == "after":
            given = {name: self.read(name) for name in ("before", "after")}
            write_evidence(self.run.path, questions, {name: kept for name, kept in given.items() if kept})

    def questions(self, loaded: Loaded, renderer: Renderer) -> list[Question]:
        """Return the recipe's question file, else prompts of held-out rows, else of training rows."""
        if self._given:
            return self._given
        rows = loaded.held_out or loaded.train
        return questions_from(rows, self.recipe.poise.question_count, lambda row: isinstance(renderer.row(row), Row))

    def read(self, label: str) -> list[Answer]:
        """Return stored answers, an empty list where none are."""
        file = self.run.path / ANSWERS / f"{label}.json"
        return [Answer(**row) for row in json.loads(file.read_text())] if file.is_file() else []

    def _keep(self, label: str, answers: list[Answer]) -> None:
        write_whole(self.run.path / ANSWERS / f"{label}.json", json.dumps([asdict(each) for each in answers]))


def write_evidence(folder: Path, questions: list[Question], answers: dict[str, list[Answer]]) -> dict[str, Any]:
    """Write samples.jsonl and evidence.json; returns the evidence."""
    samples, evidence = compare(questions, answers)
    write_whole(folder / SAMPLES, "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples))
    write_whole(folder / EVIDENCE, json.dumps(evidence, indent=2) + "\n")
    return evidence


def train_and_report(recipe: Recipe, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Run one training command; returns what `--json` prints, nothing in other processes than the main one."""
    run = Run(Path(str(recipe.training["output_dir"])))
    train(recipe, run, resume=resume, overwrite=overwrite, ask=Evidence(recipe, run))
    if not is_main():
        return {}
    verdict = build_report([run.path], run.path / "report.html")
    verdict.tell()
    progress.say(f"model:  {run.path / 'model'}\nreport: {run.path / 'report.html'}")
    return summary(run, verdict)


def summary(run: Run, verdict: Verdict) -> dict[str, Any]:
    """Return the facts of a finished run as one JSON-ready mapping."""
    manifest, ledger, metrics = run.manifest, run.ledger(), run.metrics()
    return {
        "verb": manifest["verb"],
        "status": manifest["status"],
        "seconds": manifest["seconds"],
        "steps": manifest["optimizer_steps"],
        "rows": {key: ledger[key] for key in ("in", "used", "dropped")},
        "data": {key: manifest["data"][key] for key in ("rows", "tokens", "trained_tokens")},
        "reference": manifest["reference"],
        "last": metrics[-1] if metrics else {},
        "evidence": run.evidence().get("sets", []),
        **verdict.to_json(),
        "model": str(run.path / "model"),
        "report": str(run.path / "report.html"),
    }
