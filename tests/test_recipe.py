"""Recipes: the handbook's files run as they are, every value knows its origin, and every error names its place."""

import importlib
import importlib.util
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.errors import RecipeError
from poise.objectives.dpo import DPO
from poise.recipe import DatasetPart, Recipe, load_recipe

DPO_FULL = "zephyr-7b-beta/dpo/config_full.yaml"
DPO_QLORA = "zephyr-7b-beta/dpo/config_qlora.yaml"
GEMMA_SFT = "zephyr-7b-gemma/sft/config_full.yaml"
SMOL_SFT = "smollm2/sft/config.yaml"
ORPO = "zephyr-141b-A35b/orpo/config_full.yaml"

HANDBOOK = Path(__file__).parents[2] / "shared" / "data" / "handbook-recipes"
FILES = sorted(HANDBOOK.glob("*/*/*.yaml"))
needs_handbook = pytest.mark.skipif(not FILES, reason="the handbook's recipes are not beside this repository")

MINIMAL = "model_name_or_path: tiny\ndataset_name: rows.jsonl\n"


def handbook(name: str, *overrides: str) -> Recipe:
    path = HANDBOOK / name
    return load_recipe(path.parent.name, path, overrides)


def recipe_of(tmp_path: Path, text: str, *overrides: str, verb: str = "dpo") -> Recipe:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(verb, path, overrides)


def error_of(tmp_path: Path, text: str, *overrides: str, verb: str = "dpo") -> str:
    with pytest.raises(RecipeError) as caught:
        recipe_of(tmp_path, text, *overrides, verb=verb)
    return str(caught.value)


# the handbook's own files


@needs_handbook
@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.parts[-3:]))
def test_handbook_recipes_resolve_unmodified_and_round_trip(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path.parent.name, path)
    again = recipe_of(tmp_path, recipe.resolved_yaml(), verb=recipe.verb)
    assert again.sections() == recipe.sections()
    assert (again.model, again.data, again.objective) == (recipe.model, recipe.data, recipe.objective)
    json.dumps(recipe.to_json(), allow_nan=False)


@needs_handbook
def test_there_are_eleven_handbook_recipes() -> None:
    assert len(FILES) == 11


@needs_handbook
def test_zephyr_dpo_has_the_published_values() -> None:
    recipe = handbook(DPO_FULL)
    assert recipe.objective == DPO(beta=0.01)
    assert recipe.training["learning_rate"] == 5e-7
    assert recipe.training["warmup_steps"] == 0.1
    assert recipe.training["activation_checkpointing_kwargs"] == {"use_reentrant": False}
    assert (recipe.data.max_length, recipe.data.max_prompt_length) == (1024, 512)
    assert recipe.model.torch_dtype is None
    ultrafeedback = "HuggingFaceH4/ultrafeedback_binarized"
    assert recipe.data.train_parts == (
        DatasetPart(ultrafeedback, "default", "train_prefs", None, ("chosen", "rejected"), 1.0),
        DatasetPart(ultrafeedback, "default", "test_prefs", None, ("chosen", "rejected"), 1.0),
    )
    assert (recipe.data.test_parts, recipe.data.test_split_size, recipe.data.mix_seed) == ((), 2000, 0)


@needs_handbook
def test_zephyr_dpo_qlora_mixes_in_the_classic_way() -> None:
    recipe = handbook(DPO_QLORA)
    name = "HuggingFaceH4/ultrafeedback_binarized"
    assert recipe.data.train_parts == (DatasetPart(name, None, "train_prefs"),)
    assert recipe.data.test_parts == (DatasetPart(name, None, "test_prefs"),)
    assert recipe.model.lora_r == recipe.model.lora_alpha == 128
    assert recipe.model.tuning == "LoRA"
    assert recipe.training["optim"] == "paged_adamw_32bit"


@needs_handbook
def test_smollm_sft_has_one_dataset_with_a_test_split() -> None:
    recipe = handbook(SMOL_SFT)
    assert recipe.data.train_parts == (DatasetPart("HuggingFaceTB/smoltalk", "all", "train"),)
    assert recipe.data.test_parts == (DatasetPart("HuggingFaceTB/smoltalk", "all", "test"),)
    assert recipe.data.max_length == 8192
    assert recipe.training["save_strategy"] == "no"
    assert recipe.training["learning_rate"] == 3e-4


@needs_handbook
def test_orpo_recipe_has_its_steps_of_warmup_and_its_schedule() -> None:
    recipe = handbook(ORPO)
    assert recipe.objective.model_dump() == {"beta": 0.05}
    assert recipe.training["warmup_steps"] == 100
    assert recipe.training["lr_scheduler_type"] == "inverse_sqrt"


@needs_handbook
def test_keys_without_effect_are_noted_with_the_reason() -> None:
    notes = {note.key: note for note in handbook(GEMMA_SFT).notes}
    assert notes["dataset_kwargs"].place == "config_full.yaml:29"
    assert "one renderer" in notes["dataset_kwargs"].why
    assert "never pushes" in notes["push_to_hub"].why
    assert handbook(GEMMA_SFT).training["push_to_hub"] is False
    assert handbook(GEMMA_SFT).training["remove_unused_columns"] is False


# origins and precedence


def test_caller_gives_way_to_file_and_file_to_command_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL + "seed: 2\nbeta: 0.2\n")
    recipe = load_recipe("dpo", path, ["--beta=0.3"], defaults={"seed": 1, "beta": 0.1, "max_steps": 5})
    assert recipe.objective.model_dump()["beta"] == 0.3
    assert (recipe.training["seed"], recipe.training["max_steps"]) == (2, 5)
    told = {key: recipe.origins[key].text for key in ("beta", "seed", "max_steps", "weight_decay")}
    assert told == {"beta": "command line", "seed": "mine.yaml:3", "max_steps": "caller", "weight_decay": "default"}


def test_recipe_needs_no_file() -> None:
    recipe = load_recipe("sft", None, defaults={"model_name_or_path": "tiny", "dataset_name": "rows.jsonl"})
    assert recipe.data.max_length == 2048
    assert recipe.training["output_dir"] == "runs/sft"


def test_old_spelling_on_the_command_line_replaces_the_new_one_in_the_file(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, MINIMAL + "max_length: 64\nwarmup_steps: 10\n", "max_seq_length=32", "warmup_ratio=.5")
    assert (recipe.data.max_length, recipe.training["warmup_steps"]) == (32, 0.5)


def test_nested_override_changes_one_value_of_a_mapping(tmp_path: Path) -> None:
    text = "model_name_or_path: tiny\ndataset_mixture: {datasets: [{id: a}, {id: b}], seed: 0}\n"
    overrides = ("dataset_mixture.seed=1", "dataset_mixture.datasets.1.weight=0.5")
    recipe = recipe_of(tmp_path, text, *overrides)
    assert recipe.data.mix_seed == 1
    assert [part.fraction for part in recipe.data.train_parts] == [1.0, 0.5]
    assert recipe.origins["dataset_mixture"].text.startswith("mine.yaml:2, then command line: dataset_mixture.seed")
    assert "no 'datasets.7.weight'" in error_of(tmp_path, text, "dataset_mixture.datasets.7.weight=1")


def test_mixer_fraction_can_be_overridden_by_a_name_with_dots(tmp_path: Path) -> None:
    text = "model_name_or_path: tiny\ndataset_mixer: {org/v1.5: 1.0}\n"
    assert recipe_of(tmp_path, text, "dataset_mixer.org/v1.5=0.25").data.train_parts[0].fraction == 0.25


def test_data_named_on_the_command_line_replaces_the_files_way_of_naming_it(tmp_path: Path) -> None:
    text = "model_name_or_path: tiny\ndataset_mixer: {a: 1.0}\ndataset_splits: [train]\n"
    recipe = recipe_of(tmp_path, text, "dataset_name=mine.jsonl")
    assert recipe.data.train_parts == (DatasetPart("mine.jsonl", None, "train"),)
    assert {note.key for note in recipe.notes} == {"dataset_mixer", "dataset_splits"}


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("report_to=none", "report_to", []),
        ("save_strategy=no", "save_strategy", "no"),
        ("run_name=007", "run_name", "007"),
        ("run_name=true", "run_name", "true"),
        ("run_name=a=b", "run_name", "a=b"),
        ("bf16=true", "bf16", True),
        ("save_steps=0.05", "save_steps", 0.05),
        ("save_steps=100", "save_steps", 100),
        ("save_total_limit=null", "save_total_limit", None),
        ("optim_target_modules=a,b", "optim_target_modules", ["a", "b"]),
        ('lr_scheduler_kwargs={"min_lr_rate": 0.1}', "lr_scheduler_kwargs", {"min_lr_rate": 0.1}),
        ("lr_scheduler_kwargs.min_lr_rate=0.1", "lr_scheduler_kwargs", {"min_lr_rate": 0.1}),
        ("gradient_checkpointing=yes", "activation_checkpointing", True),
    ],
)
def test_override_is_read_as_its_key_asks(tmp_path: Path, override: str, key: str, value: object) -> None:
    assert recipe_of(tmp_path, MINIMAL, override).training[key] == value


def test_override_errors_name_the_command_line(tmp_path: Path) -> None:
    error = error_of(tmp_path, MINIMAL, "--bf16", "beta=x", "gama=1", "lora_r=0")
    assert "has 4 problems" in error
    assert "on the command line: beta=x\n      expected a number, got 'x'" in error
    assert "on the command line: lora_r=0\n      must be at least 1, got 0" in error
    assert "write bf16=" in error


def test_all_errors_are_told_at_once_with_a_caret(tmp_path: Path) -> None:
    error = error_of(tmp_path, "lerning_rate: 1\n" + MINIMAL + "seed: -1\n")
    assert "has 2 problems" in error
    assert "     1 | lerning_rate: 1\n       | ^^^^^^^^^^^^ unknown key" in error
    assert "mine.yaml:4:7\n     4 | seed: -1\n       |       ^^ must be at least 0, got -1" in error


# defaults


@pytest.mark.parametrize(
    ("verb", "peft", "rate"),
    [
        ("dpo", "false", 5e-7), ("dpo", "true", 5e-6), ("sft", "false", 2e-5), ("sft", "true", 2e-4),
        ("cpt", "false", 2e-5), ("cpt", "true", 2e-4), ("orpo", "false", 5e-6), ("orpo", "true", 5e-5),
        ("simpo", "false", 6e-7), ("cpo", "true", 1e-4), ("apo_down", "false", 2e-7), ("nll", "false", 2e-5),
    ],
)  # fmt: skip
def test_learning_rate_defaults_to_the_published_one(tmp_path: Path, verb: str, peft: str, rate: float) -> None:
    recipe = recipe_of(tmp_path, MINIMAL, f"use_peft={peft}", verb=verb)
    assert recipe.training["learning_rate"] == rate
    assert verb in recipe.origins["learning_rate"].text
    assert recipe.training["output_dir"] == f"runs/mine-{verb}"
    assert recipe.data.max_length == (2048 if verb in ("sft", "cpt") else 1024)


def test_null_leaves_a_key_to_its_default(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, MINIMAL + "learning_rate: null\nmax_seq_length: null\n", verb="sft")
    assert (recipe.training["learning_rate"], recipe.data.max_length) == (2e-5, 2048)


def test_describe_lists_what_acts_with_section_and_origin(tmp_path: Path) -> None:
    rows = {key: (section, value, origin) for section, key, value, origin in recipe_of(tmp_path, MINIMAL).describe()}
    assert rows["model_name_or_path"] == ("model", "tiny", "mine.yaml:1")
    assert rows["learning_rate"] == ("training", 5e-7, "default for dpo with all weights trained")
    assert rows["beta"] == ("objective", 0.1, "default")
    assert rows["prefix_sharing"] == ("poise", "auto", "default")
    assert "lora_r" not in rows
    assert "dataset_splits" not in rows


def test_resolved_yaml_says_where_each_value_comes_from(tmp_path: Path) -> None:
    text = recipe_of(tmp_path, MINIMAL + "push_to_hub: true\n", "beta=0.2").resolved_yaml()
    assert "# data\ndataset_name: rows.jsonl  # mine.yaml:2\n" in text
    assert "beta: 0.2  # command line\n" in text
    assert "push_to_hub: false  # adjusted: training never pushes" in text
    assert "save_strategy: steps  # default\n" in text


def test_recipe_is_frozen(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        recipe.verb = "sft"


def test_a_token_is_refused_and_shown_nowhere(tmp_path: Path) -> None:
    error = error_of(tmp_path, MINIMAL + "hub_token: verysecret\n", "run_nam=hf_abcdefghijk", "hub_token=secretive")
    assert "must not hold a token" in error
    assert not any(secret in error for secret in ("verysecret", "hf_abc", "secretive"))


# dialects and rules


def test_fractions_of_the_classic_mixer_hold_for_every_split_of_a_dataset(tmp_path: Path) -> None:
    text = "model_name_or_path: t\ndataset_mixer: {A: 0.5, B: 1.0}\ndataset_splits: [train_1, train_2, test]\n"
    recipe = recipe_of(tmp_path, text + "dataset_configs: [x, y]\n")
    told = [(part.name, part.config, part.split, part.fraction) for part in recipe.data.train_parts]
    assert told == [
        ("A", "x", "train_1", 0.5), ("A", "x", "train_2", 0.5), ("B", "y", "train_1", 1.0), ("B", "y", "train_2", 1.0),
    ]  # fmt: skip
    assert [part.fraction for part in recipe.data.test_parts] == [1.0, 1.0]
    assert "2 datasets" in error_of(tmp_path, text + "dataset_configs: [x]\n")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("dataset_mixer: {a: 1}", "data is named in 2 ways"),
        ("dataset_splits: [train]", "dataset_splits goes with dataset_mixer"),
        ("dataset_name: null", "no data is named"),
        ("load_in_4bit: true\nload_in_8bit: true\nuse_peft: true", "exclude each other"),
        ("fp16: true", "overflow until the scale is found"),
        ("resume_from_checkpoint: out/checkpoint-5", "pass --resume"),
        ("chat_template: no-such-name", "neither a known name nor a template"),
        ("chat_template: missing.jinja", "there is no file missing.jinja"),
        ("use_peft: 7", "expected true or false, got 7"),
        ("lr_scheduler_kwargs: {a: .nan}", "expected a finite number"),
        ('learning_rate: "1e999"', "expected a finite number"),
        ("learning_rate: 1e999", "expected a finite number"),
        ("run_name: 7", "put it in quotes"),
        ("warmup_steps: 10.5", "expected a whole number of steps"),
        ("max_steps: 0", "or -1 to let num_train_epochs decide"),
        ("cutoff_len: 9", "it is LLaMA-Factory's name"),
        ("prefix_sharing: true", "expected one of auto, on, off, got true"),
    ],
)
def test_rules_across_and_within_keys(tmp_path: Path, lines: str, says: str) -> None:
    text = MINIMAL.replace("dataset_name: rows.jsonl\n", "") if "dataset_name" in lines else MINIMAL
    assert says in error_of(tmp_path, text + lines + "\n")


def test_missing_model_is_told_without_a_line(tmp_path: Path) -> None:
    assert "'model_name_or_path' is missing" in error_of(tmp_path, "")


def test_unknown_objective_gets_the_near_name() -> None:
    with pytest.raises(RecipeError, match=r"no objective 'dpoo'; did you mean 'dpo'\?"):
        load_recipe("dpoo", None)


def test_flash_attention_flag_and_dtype_are_translated(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, MINIMAL + "use_flash_attention_2: true\ndtype: bfloat16\n")
    assert (recipe.model.attn_implementation, recipe.model.torch_dtype) == ("flash_attention_2", "bfloat16")


def test_tracker_that_is_not_installed_is_adjusted_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "trackio" or None)
    monkeypatch.setattr("poise.recipe_objective.names_in", lambda package: ["dpo"])
    monkeypatch.setattr(
        "poise.recipe_objective.load_named", lambda package, name: importlib.import_module(f"{package}.{name}")
    )
    recipe = recipe_of(tmp_path, MINIMAL + "report_to: [trackio, wandb]\n")
    assert recipe.training["report_to"] == ["trackio"]
    assert recipe.origins["report_to"].text == "adjusted: wandb not installed; pip install wandb (mine.yaml:3)"


def test_text_of_lora_keys_without_lora_is_noted(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, MINIMAL + "lora_r: 8\n")
    assert [str(note) for note in recipe.notes] == ["mine.yaml:3: lora_r: no effect: use_peft is false"]


def test_inline_template_survives_the_round_trip(tmp_path: Path) -> None:
    template = "{% for m in messages %}\n\t{{ m['content'] + \"é😀\u2028\" }} # not a comment\n{% endfor %}"
    path = tmp_path / "t.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    recipe = load_recipe("sft", path, [f"chat_template={template}"])
    assert recipe.model.chat_template == template
    assert recipe_of(tmp_path, recipe.resolved_yaml(), verb="sft").model.chat_template == template


# YAML


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1\nb: 2", "mine.yaml:2:2"),
        ("\ta: 1", "spaces, not tabs"),
        ("a: 'x", "unexpected end of stream"),
        ("a: 1\n b: 2", "mine.yaml:2:3"),
        ("- 1", "lines of `key: value`"),
        ("just text", "lines of `key: value`"),
        ("a: 1\n---\nb: 2", "a second document"),
        ("a: !!python/object/apply:os.system [x]", "is refused"),
        ("a: *nothing", "no anchor &nothing"),
        ("a: &a [*a]", "no anchor &a"),
        ("? [1]\n: 2", "a key must be a word"),
        ("a: \x01", "character that YAML does not allow"),
        ("[" * 5000, "lines of `key: value`"),
        ("a: " + "[" * 500, "20 levels"),
        ("a: [" + "1, " * 20000 + "]", "10,000 values"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"{c}: &{c} [{','.join(['*' + p] * 10)}]\n"
         for p, c in zip("abcdef", "bcdefg", strict=True)), "10,000 values"),
    ],
    ids=range(16),
)  # fmt: skip
def test_text_that_is_no_recipe_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    started = time.process_time()
    assert says in error_of(tmp_path, text)
    assert time.process_time() - started < 2


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        load_recipe("dpo", tmp_path / "absent.yaml")
    (tmp_path / "big.yaml").write_bytes(b"a" * 1_000_001)
    with pytest.raises(RecipeError, match="larger than"):
        load_recipe("dpo", tmp_path / "big.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(RecipeError, match=r"latin\.yaml:2: the file is not UTF-8"):
        load_recipe("dpo", tmp_path / "latin.yaml")


def test_yaml_is_1_2(tmp_path: Path) -> None:
    text = "\ufeff" + MINIMAL + "save_strategy: no\nlearning_rate: 1e-6\nadam_epsilon: '1e-9'\nrun_name: 2024-01-01\n"
    training = recipe_of(tmp_path, text).training
    assert training["save_strategy"] == "no"
    assert (training["learning_rate"], training["adam_epsilon"]) == (1e-6, 1e-9)
    assert training["run_name"] == "2024-01-01"


def test_anchors_within_bounds_work(tmp_path: Path) -> None:
    text = "model_name_or_path: &m tiny\nref_model: *m\ndataset_name: rows.jsonl\n"
    assert recipe_of(tmp_path, text).model.ref_model_name_or_path == "tiny"


# whatever is written, the answer is a recipe or a RecipeError

KEYS = ("learning_rate", "beta", "dataset_mixture", "dataset_mixer", "dataset_splits", "report_to", "loss_type",
        "loss_weights", "chat_template", "warmup_ratio", "use_flash_attention_2", "trust_remote_code", "seed",
        "max_length", "lora_target_modules", "push_to_hub", "optim", "gradient_checkpointing_kwargs", "nonsense",
        "save_steps")  # fmt: skip
NESTED = ("datasets", "id", "weight", "seed", "split", "columns", "x")
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(KEYS))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NESTED), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=5))
def test_any_values_give_a_recipe_or_a_recipe_error(tmp_path_factory: pytest.TempPathFactory, said: dict) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(MINIMAL + "".join(f"{key}: {json.dumps(value)}\n" for key, value in said.items()))
    try:
        recipe = load_recipe("dpo", path)
    except RecipeError:
        return
    path.write_text(recipe.resolved_yaml(), encoding="utf-8")
    assert load_recipe(recipe.verb, path).sections() == recipe.sections()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 300), st.text(max_size=4), st.integers(0, 5), st.text(max_size=12))
def test_any_damage_to_a_file_gives_a_recipe_or_a_recipe_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, new: str, cut: int, override: str
) -> None:
    source = (
        MINIMAL + "dataset_train_split: train\nlearning_rate: 5.0e-7\nreport_to:\n- none\nlr_scheduler_kwargs: {a: 1}\n"
    )
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    at = at % len(source)
    path.write_text(source[:at] + new + source[at + cut :], encoding="utf-8", errors="replace")
    try:
        load_recipe("dpo", path, [override])
    except RecipeError as error:
        assert str(error)


def test_resolving_is_quick(tmp_path: Path) -> None:
    recipe_of(tmp_path, MINIMAL)  # imports the objective
    started = time.process_time()
    recipe_of(tmp_path, MINIMAL)
    assert time.process_time() - started < 0.2
