"""Any key of a curation recipe can be given on the command line, and a mistake there is told as such."""

from pathlib import Path

import pytest

from poise.curate.curation import Curation, load_curation
from poise.errors import RecipeError

RECIPE = """\
out: data
sources:
  - {source: boolq, path: boolq.jsonl}
  - {path: a.b.jsonl, name: a.b.jsonl}
steps:
  - exact
  - near_duplicates: {threshold: 0.6}
  - decontaminate: {benchmarks: [gsm8k]}
"""


@pytest.fixture
def loaded(tmp_path: Path):
    def load(*overrides: str, text: str = RECIPE) -> Curation:
        (tmp_path / "recipe.yaml").write_text(text)
        return load_curation(tmp_path / "recipe.yaml", overrides)

    return load


def test_a_step_is_named_by_its_name(loaded) -> None:
    curation = loaded("steps.near_duplicates.threshold=0.7", "--steps.exact.key=row")
    steps = dict(curation.named_steps())
    assert (steps["near_duplicates"].threshold, steps["exact"].key) == (0.7, "row")
    assert steps["decontaminate"].benchmarks[0].name == "gsm8k"


def test_a_list_is_written_in_brackets_and_its_parts_are_numbered(loaded) -> None:
    steps = dict(loaded("steps.decontaminate.benchmarks=[mmlu, {name: piqa, revision: abc}]").named_steps())
    assert [(each.name, each.revision) for each in steps["decontaminate"].benchmarks] == [
        ("mmlu", None),
        ("piqa", "abc"),
    ]
    steps = dict(loaded("steps.decontaminate.benchmarks.0=mmlu").named_steps())
    assert [each.name for each in steps["decontaminate"].benchmarks] == ["mmlu"]
    assert [name for name, _ in loaded("steps=[exact, quality]").named_steps()] == ["exact", "quality"]


def test_a_source_is_named_by_what_it_is_called_or_its_number(loaded) -> None:
    curation = loaded("sources.boolq.count=10", "sources.a.b.jsonl.repeat=2", "sources.1.confidence=3")
    assert curation.sources[0].count == 10
    assert (curation.sources[1].repeat, curation.sources[1].confidence) == (2, 3)


def test_keys_within_keys_are_made(loaded) -> None:
    curation = loaded("split.test=0.1", "engine.ray=ray://head:10001", "out=other")
    assert (curation.split.test, curation.engine.ray, curation.out) == (0.1, "ray://head:10001", "other")


def test_a_step_that_is_there_by_default_has_keys(loaded) -> None:
    curation = loaded("steps.exact.key=row", text="out: data\nsources: [{path: a.jsonl}]\n")
    assert [(name, step.key) for name, step in curation.named_steps()] == [("exact", "row")]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("steps.near_duplicate.threshold=0.7", "no step 'near_duplicate'; did you mean 'near_duplicates'"),
        ("steps.quality.refusals=off", "no step 'quality'; there are exact, near_duplicates, decontaminate"),
        ("steps.near_duplicates.treshold=0.7", "unknown key 'treshold'; did you mean 'threshold'"),
        ("steps.near_duplicates.threshold=7", "must be at most 1, got 7"),
        ("sources.bool.count=3", "no source 'bool'; did you mean 'boolq'"),
        ("sources.boolq.coun=3", "no key 'coun'; did you mean 'count'"),
        ("sources.boolq.count=many", "expected a whole number, got 'many'"),
        ("sources.boolq=3", "say which key of the source: sources.boolq.count="),
        ("sedd=3", "unknown key 'sedd'; did you mean 'seed'"),
        ("out.folder=3", "there is no 'out.folder' to override"),
        ("out", "expected key=value"),
    ],
)
def test_a_mistake_is_told_as_one_of_the_command_line(loaded, given: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        loaded(given)
    assert f"on the command line: {given}" in str(caught.value) and told in str(caught.value)
