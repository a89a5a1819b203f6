"""Words of a command line: poise's own way, and those of the handbook's and TRL's printed commands."""

from pathlib import Path

import pytest

from poise.arguments import NEAR, OPTIONS, split_arguments
from poise.errors import RecipeError
from poise.names import did_you_mean, names_in
from poise.recipe import DataSection, ModelSection, PoiseSection
from poise.recipe_objective import objective_class
from poise.training_fields import TRAINING_FIELDS


@pytest.mark.parametrize(
    ("words", "path", "overrides"),
    [
        ("sft.yaml beta=1 --lora_r=8", "sft.yaml", ["beta=1", "--lora_r=8"]),
        ("--config recipes/sft.yaml --learning_rate 1e-6", "recipes/sft.yaml", ["--learning_rate=1e-6"]),
        ("--use_peft --lora_r 8 sft.yaml", "sft.yaml", ["--use_peft=true", "--lora_r=8"]),
        ("--max_steps -1 --packing", None, ["--max_steps=-1", "--packing=true"]),
        ("--use_peft sft.yaml", "sft.yaml", ["--use_peft=true"]),
        ("--lora_target_modules q_proj v_proj lora_r=8", None, ["--lora_target_modules=q_proj,v_proj", "lora_r=8"]),
        ("recipe --beta .1", "recipe", ["--beta=.1"]),
    ],
)
def test_keys_are_read_in_every_way_they_are_written(words: str, path: str | None, overrides: list[str]) -> None:
    assert split_arguments(words.split()) == (Path(path) if path else None, overrides)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--resum", "did you mean '--resume'"),
        ("-r 8", "unknown option -r"),
        ("a.yaml b.yaml", "one recipe at a time, got a.yaml, b.yaml"),
    ],
)
def test_what_is_neither_is_refused(words: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        split_arguments(words.split())


def test_no_key_reads_like_an_option() -> None:
    sections = [ModelSection, DataSection, PoiseSection, *map(objective_class, names_in("poise.objectives"))]
    keys = {*TRAINING_FIELDS, *(key for section in sections for key in section.model_fields)}
    assert not [key for key in keys if did_you_mean(f"--{key}", OPTIONS, cutoff=NEAR)]
