"""Dialects are data: every name they lead to exists, and the table of training fields is transformers' own."""

import dataclasses
import typing
from enum import Enum
from pathlib import Path

import pytest

from poise.dialects import FORCED, FOREIGN, NO_EFFECT, REFUSED, RENAMED, REWORDED
from poise.errors import RecipeError
from poise.names import names_in
from poise.recipe import load_recipe
from poise.recipe_faults import mentions
from poise.recipe_sections import DataSection, DatasetMixture, ModelSection, PoiseSection
from poise.training_fields import TRAINING_FIELDS

OWN_KEYS = {*ModelSection.model_fields, *DataSection.model_fields, *PoiseSection.model_fields}
OBJECTIVE_KEYS = {"beta", "cpo_alpha", "label_smoothing", "loss_type", "loss_weights"}
KNOWN = OWN_KEYS | TRAINING_FIELDS.keys() | NO_EFFECT.keys() | OBJECTIVE_KEYS


def test_training_fields_are_those_of_the_installed_transformers() -> None:
    from transformers import TrainingArguments

    fields = {field.name: field for field in dataclasses.fields(TrainingArguments)}
    assert TRAINING_FIELDS.keys() == fields.keys()
    hints = typing.get_type_hints(TrainingArguments)
    for name in set(TRAINING_FIELDS) - {"parallelism_config"}:
        parts = typing.get_args(hints[name]) or (hints[name],)
        kinds = {typing.get_origin(part) or part for part in parts}
        numbers = kinds & {int, float, bool, dict, type(None)}
        missing = {kind for kind in numbers if not mentions(TRAINING_FIELDS[name], kind)}
        assert not missing, (name, missing)


@pytest.mark.parametrize("name", ["optim", "lr_scheduler_type", "save_strategy", "eval_strategy", "hub_strategy"])
def test_choices_are_those_of_the_installed_transformers(name: str) -> None:
    from transformers import TrainingArguments

    hint = typing.get_type_hints(TrainingArguments)[name]
    enum = next(part for part in typing.get_args(hint) if isinstance(part, type) and issubclass(part, Enum))
    assert set(typing.get_args(TRAINING_FIELDS[name])) == {choice.value for choice in enum}


def test_old_spellings_lead_to_keys_that_exist() -> None:
    assert set(RENAMED.values()) <= KNOWN
    assert not RENAMED.keys() & RENAMED.values()
    assert REWORDED.keys() <= RENAMED.keys()
    assert FORCED.keys() <= TRAINING_FIELDS.keys() | OWN_KEYS
    assert REFUSED.keys() <= TRAINING_FIELDS.keys() | OWN_KEYS


def test_foreign_names_lead_to_keys_that_exist_and_are_no_keys_here() -> None:
    nested = {f"dataset_mixture.{key}" for key in DatasetMixture.model_fields}
    assert {key for _, key in FOREIGN.values()} <= KNOWN | nested
    assert not FOREIGN.keys() & (KNOWN | RENAMED.keys())


def test_a_key_belongs_to_one_section() -> None:
    sections = [ModelSection.model_fields, DataSection.model_fields, PoiseSection.model_fields, TRAINING_FIELDS]
    keys = [key for section in sections for key in section]
    assert len(keys) == len(set(keys))
    assert not OWN_KEYS & NO_EFFECT.keys()
    assert not {"cpt", "sft", "dpo", "orpo"} - set(names_in("poise.objectives"))


@pytest.mark.parametrize("key", sorted(NO_EFFECT))
def test_every_key_without_effect_is_accepted_and_noted(key: str, tmp_path: Path) -> None:
    recipe = load_recipe("dpo", None, [f"{key}=1"], defaults={"model_name_or_path": "m", "dataset_name": "d"})
    assert [note.key for note in recipe.notes] == [key]
    assert recipe.notes[0].why == NO_EFFECT[key]


@pytest.mark.parametrize("key", sorted(FOREIGN))
def test_every_foreign_name_is_answered_with_ours(key: str) -> None:
    with pytest.raises(RecipeError, match=f"here it is {FOREIGN[key][1]}"):
        load_recipe("dpo", None, [f"{key}=1"], defaults={"model_name_or_path": "m", "dataset_name": "d"})
