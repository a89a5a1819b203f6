"""Every recipe of the alignment handbook's history resolves, plans and trains; every one of its 81 keys is answered.

The given files lie beside the repository. tests/history holds keys and values of recipes that are no longer there.
"""

from pathlib import Path

import pytest

from helpers.in_place import in_place
from poise.plan import plan
from poise.recipe import load_recipe
from poise.recipe_yaml import read_recipe_file
from poise.run import Run
from poise.train.train import train

GIVEN = sorted((Path(__file__).parents[2] / "shared" / "data" / "handbook-recipes").glob("*/*/*.yaml"))
HISTORY = sorted((Path(__file__).parent / "history").glob("*/*/*.yaml"))
SAMPLE = {
    "gpt2-nl-cpt-config_full", "zephyr-7b-sft-config_lora", "smollm3-sft-mid", "smollm3-dpo-apo",
    "zephyr-7b-beta-dpo-config_qlora", "zephyr-7b-gemma-sft-config_full", "zephyr-141b-A35b-orpo-config_full",
}  # fmt: skip
"""One for each objective, tuning and era; the others are slow."""

KEYS = """
    model_name_or_path model_revision tokenizer_name_or_path torch_dtype trust_remote_code use_flash_attention_2
    attn_implementation eos_token chat_template use_peft load_in_4bit lora_r lora_alpha lora_dropout lora_target_modules
    dataset_mixer dataset_mixture dataset_name dataset_config dataset_configs dataset_splits dataset_train_split
    dataset_test_split preprocessing_num_workers dataset_num_proc dataset_kwargs remove_unused_columns max_seq_length
    max_length max_prompt_length packing packing_strategy padding_free assistant_only_loss learning_rate
    lr_scheduler_type lr_scheduler_kwargs warmup_ratio warmup_steps optim max_grad_norm num_train_epochs max_steps
    per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps gradient_checkpointing
    gradient_checkpointing_kwargs bf16 tf32 use_liger_kernel average_tokens_across_devices beta loss_type do_train
    do_eval evaluation_strategy eval_strategy eval_steps logging_steps logging_strategy log_level report_to run_name
    wandb_project wandb_entity wandb_run_group save_strategy save_steps save_total_limit output_dir
    overwrite_output_dir seed push_to_hub push_to_hub_model_id hub_model_id hub_model_revision hub_strategy
    hub_private_repo ddp_timeout ddp_find_unused_parameters
""".split()  # noqa: SIM905
"""Every key of every version of a recipe on the handbook's main branch."""


def name_of(path: Path) -> str:
    return "-".join((*path.parts[-3:-1], path.stem))


def params(paths: list[Path]) -> list[object]:
    return [
        pytest.param(path, id=name_of(path), marks=() if name_of(path) in SAMPLE else pytest.mark.slow)
        for path in paths
    ]


def test_the_history_here_and_the_given_files_name_all_81_keys() -> None:
    if not GIVEN:
        pytest.skip("the handbook's recipes are not beside this repository")
    assert len(KEYS) == len(set(KEYS)) == 81
    assert {key for path in (*GIVEN, *HISTORY) for key in read_recipe_file(path).values} == set(KEYS)


@pytest.mark.parametrize("path", HISTORY, ids=name_of)
def test_a_key_of_the_history_acts_or_says_why_not(path: Path) -> None:
    recipe = load_recipe(path.parent.name, path)
    noted = {note.key: note.why for note in recipe.notes}
    acting = {origin.text.rsplit(":", 1)[-1] for origin in recipe.origins.values() if origin.kind == "file"}
    file = read_recipe_file(path)
    for key in file.values:
        assert key in noted or key == "loss_type" or str(file.keys[(key,)].line) in acting, key
    for key in noted.keys() & {"push_to_hub", "hub_model_id", "push_to_hub_model_id", "hub_strategy"}:
        assert "poise publish" in noted[key], "says what to do instead"


@pytest.mark.parametrize("path", params([*GIVEN, *HISTORY]))
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*is deprecated:FutureWarning")  # peft 0.21's old names
def test_a_handbook_recipe_plans_and_trains(path: Path, small_model: Path, tmp_path: Path) -> None:
    overrides = in_place(load_recipe(path.parent.name, path), small_model, tmp_path)
    planned = plan(path, overrides, verb=path.parent.name, with_data=True)
    assert planned["training"]["optimizer_steps"] == 2
    recipe = load_recipe(path.parent.name, path, overrides)
    run = Run(tmp_path / "run")
    train(recipe, run)
    losses = [line["loss"] for line in run.metrics() if "loss" in line]
    assert run.manifest["status"] == "done"
    assert len(losses) == 2
    assert all(0 < loss < 20 for loss in losses)
    assert any("eval_loss" in line for line in run.metrics()) == (recipe.training["eval_strategy"] != "no")
