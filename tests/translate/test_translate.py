"""`poise init --from`: configurations of other tools become recipes that load, with both lists."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from poise.cli import poise
from poise.errors import RecipeError
from poise.recipe import Recipe, load_recipe
from poise.translate.translate import init

AXOLOTL = """
base_model: NousResearch/Llama-3.2-1B
model_type: LlamaForCausalLM
rl: dpo
rl_beta: 0.2
datasets:
  - {path: org/pairs, type: chat_template.default, field_chosen: chosen}
val_set_size: 0.05
adapter: qlora
load_in_4bit: true
lora_r: 32
lora_alpha: 64
lora_target_linear: true
sequence_len: 4096
excess_length_strategy: truncate
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 4
optimizer: adamw_bnb_8bit
lr_scheduler: rex
learning_rate: 5e-4
evals_per_epoch: 4
saves_per_epoch: 1
special_tokens: {pad_token: "<|end_of_text|>"}
wandb_project: mine
hub_token: verysecret
quantize_moe_experts: true
"""
LLAMAFACTORY = """
model_name_or_path: org/base
adapter_name_or_path: saves/sft
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
pref_beta: 0.1
pref_loss: sigmoid
dataset: mine
template: llama3
cutoff_len: 1024
learning_rate: 5.0e-6
per_device_train_batch_size: 1
num_train_epochs: 3.0
warmup_ratio: 0.1
packing: false
"""
TRL = """trl dpo --model_name_or_path org/model --dataset_name org/pairs --learning_rate 2e-5 --use_peft \\
  --lora_target_modules q_proj v_proj --max_length 2048 --no_such_flag 3"""
BAGEL_SFT = """#!/bin/bash
export BASE_DIR=/workspace
accelerate launch bagel/tune/sft.py \\
  --model_name_or_path mistral-7b --final_output_dir bagel-7b --output_dir bagel-7b-workdir --num_train_epochs 1 \\
  --logging_steps 1 --save_strategy steps --save_steps 200 --save_total_limit 5 --eval_dataset_size 0.0006 \\
  --evaluation_strategy steps --eval_steps 200 --max_new_tokens 4096 --dataloader_num_workers 3 --do_train \\
  --full_finetune --bf16 --bits 16 --optim adamw_torch --lr_scheduler_type linear --dataset bagel.parquet \\
  --dataset_format input-output --model_max_len 4096 --per_device_train_batch_size 8 --learning_rate 3.5e-7 \\
  --warmup_ratio 0.005 --adam_beta2 0.999 --max_grad_norm 0.3 --weight_decay 0.001 --seed 42 --report_to none \\
  --gradient_checkpointing True --gradient_accumulation_steps 4 --skip_excess_length False --use_flash_attention_2
"""
BAGEL_DPO = """accelerate launch bagel/tune/dpo.py --model_name_or_path bagel-7b --learning_rate 3e-7 \\
  --per_device_train_batch_size 2 --gradient_accumulation_steps 4 --max_length 4096 --max_prompt_length 1024 \\
  --max_target_length 3092 --num_train_epochs 3 --save_steps 25 --eval_steps 5 --dataset pairs.parquet \\
  --eval_dataset_size 0.03 --gradient_checkpointing true --output_dir bagel-dpo --workdir work"""
HANDBOOK = """
model_name_or_path: alignment-handbook/zephyr-7b-sft-qlora
use_peft: true
load_in_4bit: true
dataset_mixer: {HuggingFaceH4/ultrafeedback_binarized: 1.0}
dataset_splits: [train_prefs, test_prefs]
beta: 0.01
learning_rate: 5.0e-6
push_to_hub: true
hub_model_id: zephyr-7b-dpo-qlora
output_dir: data/zephyr-7b-dpo-qlora
"""


def translated(tmp_path: Path, text: str, name: str = "theirs.yaml") -> tuple[dict[str, Any], Recipe]:
    """Write a configuration, translate it, and load the recipe that came out."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    out = tmp_path / "ours.yaml"
    result = init(str(tmp_path / name), out)
    return result, load_recipe(result["verb"], out)


def lost(result: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: each["why"] for each in result["not_mapped"]}


def wrong(result: dict[str, Any]) -> str:
    return "\n".join(result["would_have_gone_wrong"])


def test_axolotl_dpo_with_qlora(tmp_path: Path) -> None:
    result, recipe = translated(tmp_path, AXOLOTL)
    assert (result["tool"], result["verb"]) == ("Axolotl", "dpo")
    assert recipe.objective.model_dump()["beta"] == 0.2
    assert (recipe.model.use_peft, recipe.model.load_in_4bit, recipe.model.lora_r) == (True, True, 32)
    assert recipe.model.lora_target_modules == "all-linear"
    assert recipe.data.max_length == 4096
    assert recipe.data.test_split_size == 0.05
    assert recipe.training["eval_steps"] == 0.0625, "4 in each of 4 epochs"
    assert (recipe.training["save_strategy"], recipe.training["lr_scheduler_type"]) == ("epoch", "cosine")
    assert "got 'rex'" in lost(result)["theirs.yaml:20 lr_scheduler"]
    assert "poise has nothing" in lost(result)["quantize_moe_experts"]
    for says in (
        "0.0005 is 100 times the highest published for dpo with LoRA (5e-06)",
        "pad_token is <|end_of_text|>",
        "over 4096",
    ):
        assert says in wrong(result)
    assert "verysecret" not in json.dumps(result)


def test_llamafactory_takes_the_raw_base_for_the_reference(tmp_path: Path) -> None:
    result, recipe = translated(tmp_path, LLAMAFACTORY)
    assert (result["tool"], result["verb"]) == ("LLaMA-Factory", "dpo")
    assert recipe.model.model_name_or_path == "saves/sft"
    assert (recipe.model.lora_r, recipe.model.lora_alpha, recipe.model.lora_dropout) == (8, 16, 0.0)
    assert (recipe.data.max_length, recipe.training["warmup_steps"]) == (1024, 0.1)
    assert recipe.training["lr_scheduler_type"] == "linear", "its default, not poise's"
    assert "the raw base" in wrong(result)
    assert "rows over 1024 tokens are cut" in wrong(result)
    assert "dataset_info.json" in lost(result)["dataset"]
    assert "own template" in lost(result)["template"]


def test_llamafactory_names_data_in_its_dataset_info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    info = {"mine": {"file_name": "rows.json"}, "theirs": {"hf_hub_url": "org/set", "split": "train_sft"}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    text = "stage: sft\nmodel_name_or_path: m\ndataset: mine,theirs\nlearning_rate: 1e-4\n"
    _, recipe = translated(tmp_path, text)
    assert [(part.name, part.split) for part in recipe.data.train_parts] == [
        (os.path.join("data", "rows.json"), "train"), ("org/set", "train_sft"),  # noqa: PTH118
    ]  # fmt: skip


def test_a_trl_command_line_keeps_trls_defaults(tmp_path: Path) -> None:
    result = init(TRL, tmp_path / "ours.yaml")
    recipe = load_recipe("dpo", tmp_path / "ours.yaml")
    assert (result["tool"], result["verb"]) == ("TRL", "dpo")
    assert recipe.model.lora_target_modules == ["q_proj", "v_proj"]
    assert recipe.data.max_length == 2048
    assert (recipe.training["num_train_epochs"], recipe.training["lr_scheduler_type"]) == (3.0, "linear")
    assert recipe.training["warmup_steps"] == 0
    assert "no_such_flag" in lost(result)
    assert "the 2048th are cut" in wrong(result)


def test_bagels_sft_brings_its_hidden_noise(tmp_path: Path) -> None:
    result, recipe = translated(tmp_path, BAGEL_SFT, "sft.sh")
    training = recipe.training
    assert (result["tool"], result["verb"]) == ("bagel", "sft")
    assert not recipe.model.use_peft
    assert (training["learning_rate"], training["warmup_steps"], training["adam_beta2"]) == (3.5e-7, 0.005, 0.999)
    assert (training["neftune_noise_alpha"], training["output_dir"]) == (5.0, "bagel-7b")
    assert (recipe.data.max_length, recipe.data.test_split_size) == (4096, 0.0006)
    assert {"max_new_tokens", "dataset_format", "output_dir"} <= lost(result).keys()
    assert "near-copies" in wrong(result)


def test_bagels_dpo_has_what_its_script_fixes(tmp_path: Path) -> None:
    result, recipe = translated(tmp_path, BAGEL_DPO, "dpo.sh")
    assert (result["verb"], recipe.training["optim"], recipe.training["warmup_steps"]) == ("dpo", "rmsprop", 0.015)
    assert (recipe.data.max_length, recipe.data.max_prompt_length, recipe.data.test_split_size) == (4096, 1024, 0.03)
    assert recipe.objective.model_dump()["beta"] == 0.1
    assert "no effect" in lost(result)["max_target_length"]


def test_a_handbook_recipe_keeps_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "dpo").mkdir()
    result, recipe = translated(tmp_path, HANDBOOK, "dpo/config_qlora.yaml")
    assert (result["tool"], result["verb"]) == ("the alignment handbook", "dpo")
    assert recipe.training["optim"] == "rmsprop", "its script's default"
    assert [part.split for part in recipe.data.train_parts] == ["train_prefs"]
    assert "poise publish" in lost(result)["push_to_hub"]
    assert "4-bit weights" in wrong(result)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("base_model: m\nrl: grpo\n", "trains grpo, and poise has no objective like it"),
        ("stage: rm\nmodel_name_or_path: m\n", "of the stage rm"),
        ("echo --hello world\n#!/bin/bash\n", "no training command"),
    ],
)
def test_what_poise_cannot_do_is_refused(tmp_path: Path, text: str, says: str) -> None:
    name = "theirs.sh" if "echo" in text else "theirs.yaml"
    (tmp_path / name).write_text(text)
    with pytest.raises(RecipeError, match=says):
        init(str(tmp_path / name), None)


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text("mine")
    with pytest.raises(RecipeError, match="is there already"):
        init(TRL, tmp_path / "ours.yaml")
    assert (tmp_path / "ours.yaml").read_text() == "mine"


def test_the_command_prints_the_recipe_and_both_lists(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(AXOLOTL)
    shown = CliRunner().invoke(poise, ["init", "--from", str(tmp_path / "theirs.yaml")], catch_exceptions=False)
    assert "model_name_or_path: NousResearch/Llama-3.2-1B  # theirs.yaml:2 base_model" in shown.stdout
    assert "not carried over:" in shown.stderr
    assert "what would have gone wrong:" in shown.stderr
    as_json = CliRunner().invoke(poise, ["init", "--from", TRL, "--json"], catch_exceptions=False)
    assert json.loads(as_json.stdout)["tool"] == "TRL"
