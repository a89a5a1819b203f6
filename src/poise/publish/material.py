"""What an export is rehearsed on: the prompts that the run asked, and rows that it held out or trained on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from poise.batch.render import Refusal, Renderer
from poise.batch.row import Segment
from poise.errors import PoiseError
from poise.evaluate.questions import Question, questions_from, questions_of_samples
from poise.examples import (
    Conversation,
    Document,
    Example,
    LabeledConversation,
    PreferencePair,
    RankedAnswers,
    without_template,
)
from poise.publish.merge import MERGE, TEXTS
from poise.run import MANIFEST, Run

PROMPTS, ROWS, LONGEST = 20, 32, 1024
"""Most prompts that are asked, rows that perplexity is measured over, and tokens of either."""


@dataclass(frozen=True)
class Text:
    """A row as one sequence of tokens."""

    ids: list[int]
    trained: list[bool]
    """Whether the loss counted this token."""


@dataclass(frozen=True)
class Material:
    """Questions to answer and texts to read."""

    questions: list[Question]
    rows: list[Text] = field(default_factory=list[Text])
    described: str = ""
    """What the rows are, as a phrase."""
    calibration: list[Text] = field(default_factory=list[Text])
    """Rows that were trained on, for a quantization that looks at what a model computes."""


def run_of(model: Path) -> Path | None:
    """Return the run that a model comes from: the folder itself, the one around it, or that of the merged adapter."""
    for folder in (model, model.parent):
        if (folder / MANIFEST).is_file():
            return folder
    merged = model / MERGE
    if not merged.is_file():
        return None
    folder = Path(json.loads(merged.read_text(encoding="utf-8"))["adapter_name"]).parent
    return folder if (folder / MANIFEST).is_file() else None


def material_of(run: Path | None, renderer: Renderer, notes: list[str], calibration_rows: int = 0) -> Material:
    """Collect prompts and rows; what is missing is said in `notes` and done without."""
    if run is None:
        notes.append("no run is known, so what is asked are four beginnings of texts")
        return Material(_texts())
    held_out, trained = _examples(run, notes)
    questions = questions_of_samples(Run(run).samples())
    questions += questions_from(held_out or trained, PROMPTS)
    distinct = {(question.prompt, question.text): question for question in reversed(questions)}
    chosen = list(reversed(distinct.values()))[:PROMPTS]
    rows = _rendered(held_out or trained, renderer, ROWS)
    where = "rows that the run held out" if held_out else "rows that the run trained on"
    return Material(chosen or _texts(), rows, where, _rendered(trained, renderer, calibration_rows))


def _texts() -> list[Question]:
    return [Question(str(index), "text", text=text) for index, text in enumerate(TEXTS)]


def _examples(run: Path, notes: list[str]) -> tuple[list[Example], list[Example]]:
    """Return (held out, trained) rows of a run; none where its data is gone."""
    from poise.recipe import load_recipe
    from poise.train.data import load_examples

    try:
        recipe = load_recipe(str(Run(run).manifest["verb"]), run / "recipe.resolved.yaml")
        loaded = load_examples(recipe.data, recipe.objective.rows, recipe.verb)
    except PoiseError as error:
        notes.append(f"the run's rows cannot be read ({str(error).splitlines()[0]})")
        return [], []
    return loaded.held_out, loaded.train


def _rendered(examples: Sequence[Example], renderer: Renderer, count: int) -> list[Text]:
    """Render the first rows by content id, each as the one conversation that a model should continue like."""
    chosen = sorted(examples, key=lambda example: example.id)[: 4 * count]
    found: list[Text] = []
    for row in renderer.rows(map(as_one_sequence, chosen)):
        if len(found) == count:
            break
        if not isinstance(row, Refusal) and any(row.segments[0].trained[:LONGEST]):
            found.append(_text(row.segments[0]))
    return found


def _text(segment: Segment) -> Text:
    return Text(segment.ids[:LONGEST].tolist(), segment.trained[:LONGEST].tolist())


def as_one_sequence(example: Example) -> Example:
    """Return what a model should continue like, the better answer where there are several, in the main template."""
    match example:
        case PreferencePair(prompt=prompt, chosen=chosen):
            return Conversation(prompt + chosen, trained="last")
        case RankedAnswers(prompt=prompt, answers=answers, ranks=ranks):
            return Conversation(prompt + answers[ranks.index(min(ranks))], trained="last")
        case LabeledConversation(messages=messages):
            return Conversation(messages, trained="last")
        case Conversation() | Document():
            return without_template(example)
