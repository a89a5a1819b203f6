"""From a recipe's data section to rendered rows: load, mix, split, render, and account for every row."""

import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from poise import progress
from poise.batch.mismatch import with_mismatched
from poise.batch.objective import Objective
from poise.batch.pack import joined, pack
from poise.batch.render import Refusal, Renderer
from poise.batch.row import Row, without_mismatched
from poise.errors import DataError
from poise.examples import KINDS, OWN_TEMPLATE, Document, Example, RankedAnswers, asked, template_of
from poise.preflight.known import Length
from poise.recipe_sections import DataSection, DatasetPart
from poise.run import Drop, file_sha256
from poise.sources import SourceSpec, load
from poise.sources.tables import CURATION

NOUNS = {
    "document": "plain text (cpt)",
    "conversation": "conversations (sft)",
    "preference_pair": "preference pairs (dpo, orpo)",
    "labeled_conversation": "labelled conversations (kto)",
    "ranked_answers": "ranked answers (dpo, orpo)",
}


@dataclass
class Loaded:
    """Examples of a recipe, before any tokenizer: what goes in, and what fell out on the way."""

    train: list[Example] = field(default_factory=list)
    held_out: list[Example] = field(default_factory=list)
    rows_in: Counter[str] = field(default_factory=Counter)
    drops: list[Drop] = field(default_factory=list)
    curations: dict[str, str] = field(default_factory=dict[str, str])
    """Curated folders that were read, with the SHA-256 of each one's manifest, which names all of its files."""


@dataclass(frozen=True)
class Rendered:
    """Rows ready to train on."""

    train: Sequence[Row]
    held_out: Sequence[Row]
    drops: list[Drop]
    notes: list[str] = field(default_factory=list)
    """What is worth knowing of them."""
    lengths: list[Length] = field(default_factory=list[Length])
    """Of every Example to train on that could be rendered, too long or not, before packing."""
    tried: int = 0
    """Examples to train on that were rendered, whatever became of them."""

    def facts(self) -> dict[str, Any]:
        """Return the manifest's `data` block: sizes, hash and a histogram of sequence lengths."""
        lengths = [length for row in self.train for length in row.sequence_lengths()]
        counts, edges = np.histogram(lengths, bins=24) if lengths else (np.zeros(0), np.zeros(0))
        content = hashlib.sha256("".join(f"{row.digest()}{row.pairs}{row.labeled}" for row in self.train).encode())
        return {
            "sha256": content.hexdigest(),
            "rows": len(self.train),
            "held_out_rows": len(self.held_out),
            "tokens": sum(row.tokens for row in self.train),
            "trained_tokens": sum(without_mismatched(row).trained_tokens for row in self.train),
            "tokens_if_unshared": sum(lengths),
            "token_histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        }


def load_examples(section: DataSection, kinds: Sequence[str], verb: str) -> Loaded:
    """Read every source of a recipe; raises DataError where a file is broken or holds rows of the wrong kind."""
    loaded = Loaded()
    chance = random.Random(section.mix_seed)
    for source in section.train_parts:
        loaded.train += _sample(_load(source, section, kinds, verb, loaded), source, chance, loaded)
    for source in section.test_parts:
        loaded.held_out += _load(source, section, kinds, verb, loaded)
    if len(section.train_parts) > 1:
        chance.shuffle(loaded.train)
    if section.test_split_size:
        _hold_out(loaded, section.test_split_size, chance)
    if section.max_train_samples is not None:
        _drop(loaded, loaded.train[section.max_train_samples :], "mix", "over max_train_samples")
        loaded.train = loaded.train[: section.max_train_samples]
    return loaded


def sample_of(loaded: Loaded, at_most: int, seed: int) -> Loaded:
    """Return at most so many of the rows on each side, in their order."""
    chance = random.Random(seed)

    def some(examples: list[Example]) -> list[Example]:
        if len(examples) <= at_most:
            return examples
        return [examples[index] for index in sorted(chance.sample(range(len(examples)), at_most))]

    return replace(loaded, train=some(loaded.train), held_out=some(loaded.held_out))


def render(loaded: Loaded, renderer: Renderer, section: DataSection, objective: Objective, verb: str) -> Rendered:
    """Turn Examples into the rows an objective learns from; a refused Example becomes a drop with its reason."""
    drops: list[Drop] = []
    lengths: list[Length] = []
    train = list(_rows(loaded.train, renderer, drops, "render", lengths))
    held_out = list(_rows(loaded.held_out, renderer, drops, "render held-out", []))
    if not train:
        reasons = Counter(drop.reason for drop in [*loaded.drops, *drops])
        told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common()) or "the sources are empty"
        raise DataError(
            f"no row is left to train on ({told})\n"
            "    why:    a run on nothing would save the model it started from\n"
            "    to do:  raise max_length, set overlong=truncate_prompt, or look at the source files",
            code="E402",
        )
    notes = [
        *_template_note(loaded.train, renderer.prepared.template_name),
        *_reading_notes(loaded.train, train, objective),
        *objective.remarks(train),
    ]
    if objective.needs_mismatched:
        train, held_out = (with_mismatched(rows, section.max_length) for rows in (train, held_out))
    if objective.unit == "tokens" and (section.packing or verb == "cpt"):
        train = [joined(group) for group in pack(_cut(train), section.max_length)]
    return Rendered(train, held_out, drops, notes, lengths, len(loaded.train))


def templates_of(examples: Iterable[Example]) -> list[str]:
    """Name the chat templates that Examples ask for, beside that of the run."""
    return sorted({template_of(example) for example in examples} - {"", OWN_TEMPLATE})


def _template_note(examples: Sequence[Example], main: str) -> list[str]:
    """Say in which templates the rows are, where it is not the run's alone."""
    counts = Counter(template_of(example) for example in examples if not isinstance(example, Document))
    for same in ("", OWN_TEMPLATE):
        counts[main] += counts.pop(same, 0)
    if +counts == Counter({main: counts[main]}):
        return []
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if count)
    return [
        f"rows come in chat templates of their own ({told}); questions before and after are asked in {main}, which is "
        "saved with the model"
    ]


def _reading_notes(examples: Sequence[Example], rows: Sequence[Row], objective: Objective) -> list[str]:
    """Say where Examples are read as something else, or in part."""
    notes: list[str] = []
    split = sum(bool(row.pairs) for row in rows)
    if split and objective.unit == "answers":
        notes.append(f"{split:,} preference pairs are read as {split:,} desirable and {split:,} undesirable answers")
    answers = {example.id: len(example.answers) for example in examples if isinstance(example, RankedAnswers)}
    given = sum(answers.get(row.id, 0) for row in rows)
    left_out = given - sum(len(row.segments) - 1 for row in rows if row.id in answers)
    if left_out:
        notes.append(f"{left_out:,} of {given:,} ranked answers are left out: empty, or said already by a better one")
    return notes


def _load(source: DatasetPart, section: DataSection, kinds: Sequence[str], verb: str, loaded: Loaded) -> list[Example]:
    spec = SourceSpec(
        name=source.name,
        config=source.config,
        split=source.split,
        revision=source.revision,
        columns=source.columns,
        text_column=section.text_column,
    )
    found = load(spec, on_bad_row=section.on_bad_row, prefer=KINDS[kinds[0]])
    manifest = Path(source.name) / CURATION
    if manifest.is_file():
        loaded.curations[source.name] = file_sha256(manifest)
    loaded.rows_in += found.rows_in
    loaded.drops += found.drops
    wrong = next((example for example in found.examples if example.kind not in kinds), None)
    if wrong is not None:
        raise DataError(
            f"{source.name}: {verb} trains on {' or '.join(NOUNS[kind] for kind in kinds)}, "
            f"but this source holds {NOUNS[wrong.kind]} ({wrong.place or 'first row'})\n"
            "    to do:  use the verb for these rows, or name another source",
            code="E401",
        )
    return found.examples


def _sample(found: list[Example], source: DatasetPart, chance: random.Random, loaded: Loaded) -> list[Example]:
    if source.fraction >= 1 and source.count is None:
        return found
    order = chance.sample(range(len(found)), len(found))
    kept = set(order[: source.used_of(len(found))])
    reason = "outside its fraction" if source.count is None else "over its count"
    _drop(loaded, (example for index, example in enumerate(found) if index not in kept), "mix", reason)
    return [example for index, example in enumerate(found) if index in kept]


def _hold_out(loaded: Loaded, size: float, chance: random.Random) -> None:
    """Split by prompt, so that a copy, or another answer to the same question, never stands on the other side."""
    groups: dict[Any, list[Example]] = {}
    for example in loaded.train:
        groups.setdefault(asked(example), []).append(example)
    rows = len(loaded.train)
    wanted = int(size) if size >= 1 else math.ceil(size * rows)
    if wanted >= rows > 0:
        raise DataError(
            f"test_split_size {size:g} holds out all {rows:,} rows\n"
            "    why:    none would be left to train on\n"
            "    to do:  make it smaller"
        )
    order = sorted(groups, key=lambda prompt: groups[prompt][0].id)
    chance.shuffle(order)
    held_out: set[Any] = set()
    for prompt in order:
        if len(groups[prompt]) <= wanted:
            held_out.add(prompt)
            wanted -= len(groups[prompt])
    loaded.held_out += [example for example in loaded.train if asked(example) in held_out]
    loaded.train = [example for example in loaded.train if asked(example) not in held_out]


def _drop(loaded: Loaded, examples: Iterable[Example], stage: str, reason: str) -> None:
    loaded.drops += [_as_drop(example, stage, reason) for example in examples]


def _as_drop(example: Example, stage: str, reason: str, evidence: str = "") -> Drop:
    return Drop(stage, example.source, example.place, reason, example.id, evidence)


def _rows(
    examples: Sequence[Example], renderer: Renderer, drops: list[Drop], stage_name: str, lengths: list[Length]
) -> Iterable[Row]:
    if not examples:
        return
    with progress.stage(stage_name, len(examples)) as stage:
        for done, (example, row) in enumerate(zip(examples, renderer.rows(examples), strict=True), start=1):
            if isinstance(row, Refusal):
                drops.append(_as_drop(example, "render", row.reason, row.evidence))
                if row.size:
                    lengths.append(Length(example.id, example.place, *row.size, is_kept=False))
            else:
                lengths.append(Length(row.id, row.place, max(row.sequence_lengths()), row.trained_tokens, is_kept=True))
                yield row
            if done % 500 == 0 or done == len(examples):
                stage.advance(done, dropped=len(drops))


def _cut(rows: Iterable[Row]) -> list[Row]:
    """Make a row of every root, so that the chunks of a long document can be packed apart."""
    return [
        Row(f"{row.id}#{index}" if len(row.segments) > 1 else row.id, (segment,), row.place)
        for row in rows
        for index, segment in enumerate(row.segments)
    ]
