"""A curation recipe: what it says, and every mistake in it with its place."""

from pathlib import Path

import pytest

from poise.curate.curation import load_curation
from poise.errors import RecipeError

GOOD = """\
out: data
sources:
  - {source: boolq, confidence: 3, path: boolq.jsonl}
  - {path: my.jsonl, name: mine, count: 10}
steps:
  - exact: {key: row}
split: {test: 0.1}
formats: {use: [alpaca, chatml], policy: slices, turns: each}
"""


def write(folder: Path, text: str) -> Path:
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


def test_a_recipe_is_read_with_overrides(tmp_path: Path) -> None:
    curation = load_curation(write(tmp_path, GOOD), ["out=other", "--seed=7"])
    assert (curation.out, curation.seed) == ("other", 7)
    assert [(entry.label, entry.trust) for entry in curation.sources] == [("boolq", 3), ("mine", 2)]
    assert [(name, step.model_dump()) for name, step in curation.named_steps()] == [("exact", {"key": "row"})]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("source: boolq", "source: boolk", r"recipe.yaml:3:5.*\n.*\n.*no source 'boolk'; did you mean 'boolq'"),
        (
            "confidence: 3",
            "confidense: 3",
            r"recipe.yaml:3.*\n.*\n.*has no key 'confidense'; did you mean 'confidence'",
        ),
        ("confidence: 3", "confidence: high", r"recipe.yaml:3:.*\n.*\n.*expected a whole number"),
        ("name: mine", "name: boolq", "two sources are called 'boolq'"),
        ("count: 10", "count: 10, fraction: 0.5", "count and fraction say the same thing"),
        ("path: my.jsonl, ", "", "a source needs `source`"),
        ("count: 10", "count: 10, stratify: kind", "stratify reads a column of a catalog source's rows"),
        ("confidence: 3", "stratify: answer", "stratify keeps shares while sampling"),
        ("exact: {key: row}", "exakt", r"recipe.yaml:6.*\n.*\n.*no step 'exakt'; did you mean 'exact'"),
        ("exact: {key: row}", "exact: {key: rows}", "exact: expected one of questions, row, bagel"),
        ("exact: {key: row}", "exact: {keys: row}", "unknown key 'keys'"),
        ("  - exact: {key: row}", "  - exact\n  - exact", "the step exact is there twice"),
        ("split: {test: 0.1}", "splitt: {test: 0.1}", r"unknown key 'splitt'; did you mean 'split'"),
        ("split: {test: 0.1}", "split: {test: 0}", "must be above 0"),
        ("out: data\n", "", "'out' is missing"),
        ("[alpaca,", "[alpacca,", r"recipe.yaml:8:.*\n.*\n.*'alpacca' is no prompt format; did you mean 'alpaca'"),
        ("policy: slices", "policy: some", r"recipe.yaml:8:.*\n.*\n.*expected one of all, one, slices, got 'some'"),
        ("[alpaca, chatml]", "[chatml]", r"recipe.yaml:8:.*\n.*\n.*policy: slices chooses among several formats"),
        ("turns:", "turn:", r"recipe.yaml:8:.*\n.*\n.*unknown key 'turn'; did you mean 'turns'"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        load_curation(write(tmp_path, GOOD.replace(old, new, 1)))
