"""Recipes of the handbook with one thing wrong each: the error names the file, the line, the key and the near name."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from poise.errors import RecipeError
from poise.recipe import load_recipe

HANDBOOK = Path(__file__).parents[2] / "shared" / "data" / "handbook-recipes"


@dataclass(frozen=True)
class Broken:
    """One replacement in one recipe; `says` are all in the error, which names the line that `line` begins."""

    recipe: str
    old: str
    new: str
    line: str
    says: tuple[str, ...]


DPO_FULL = "zephyr-7b-beta/dpo/config_full.yaml"
DPO_QLORA = "zephyr-7b-beta/dpo/config_qlora.yaml"
SFT_FULL = "zephyr-7b-beta/sft/config_full.yaml"
SFT_QLORA = "zephyr-7b-beta/sft/config_qlora.yaml"
GEMMA_SFT = "zephyr-7b-gemma/sft/config_full.yaml"
GEMMA_DPO = "zephyr-7b-gemma/dpo/config_full.yaml"
SMOL_SFT = "smollm2/sft/config.yaml"
SMOL_DPO = "smollm2/dpo/config.yaml"
ORPO = "zephyr-141b-A35b/orpo/config_full.yaml"
SCAN = "pref_align_scan/dpo/config_zephyr.yaml"
ANTHROPIC = "constitutional-ai/dpo/config_anthropic.yaml"

BROKEN = (
    Broken(DPO_FULL, "learning_rate: 5", "lerning_rate: 5", "lerning_rate", ("'lerning_rate'", "'learning_rate'?")),
    Broken(DPO_FULL, "5.0e-7", "fast", "learning_rate", ("expected a number, got 'fast'",)),
    Broken(DPO_FULL, "batch_size: 8", "batch_size: -4", "per_device_train", ("must be at least 1, got -4",)),
    Broken(DPO_FULL, "beta: 0.01", "beta: 0", "beta", ("must be above 0, got 0",)),
    Broken(DPO_QLORA, "load_in_4bit", "load_in_4bits", "load_in_4bits", ("'load_in_4bits'", "'load_in_4bit'?")),
    Broken(DPO_QLORA, "use_peft: true", "use_peft: false", "load_in_4bit", ("only an adapter", "use_peft: true")),
    Broken(DPO_QLORA, "- test_prefs", "- validation", "dataset_splits", ("'validation'", "neither 'train' nor 'test'")),
    Broken(DPO_QLORA, "binarized: 1.0", "binarized: 2", "  HuggingFaceH4/ultra", ("at most 1, got 2", "repeated")),
    Broken(SFT_FULL, "bf16: true", "bf16: true\nbeta: 0.1", "beta", ("'beta' belongs to dpo, ", "sft does not")),
    Broken(SFT_FULL, "seed: 42", "seed: 42\nseed: 43", "seed: 43", ("written twice", "first on line")),
    Broken(SFT_FULL, "max_seq_length", "max_length: 9\nmax_seq_length", "max_seq", ("two spellings",)),
    Broken(SFT_QLORA, "lora_dropout: 0.05", "lora_dropout: 1.0", "lora_dropout", ("must be below 1, got 1.0",)),
    Broken(SFT_QLORA, "lora_r: 16", "lora_r: true", "lora_r", ("expected a number, got true",)),
    Broken(SFT_QLORA, "warmup_ratio: 0.1", "warmup_ratio: 1", "warmup_ratio", ("below 1, got 1",)),
    Broken(GEMMA_SFT, "eval_strategy: epoch", "eval_strategy: epoc", "eval_strategy", ("got 'epoc'", "'epoch'?")),
    Broken(GEMMA_SFT, "  test_split_size: 1000\n", "", "eval_strategy", ("nothing to evaluate on", "test_split_size")),
    Broken(GEMMA_DPO, "weight: 1.0", "weigth: 1.0", "      weigth", ("'weigth'", "'weight'?")),
    Broken(SMOL_SFT, "num_train_epochs: 2", "num_train_epochs: .inf", "num_train_epochs", ("finite", "got inf")),
    Broken(SMOL_SFT, "torch_dtype: bfloat16", "torch_dtype: bf16", "torch_dtype", ("'bf16'", "'bfloat16'?")),
    Broken(SMOL_DPO, "max_prompt_length: 512", "max_prompt_length: 1024", "max_prompt_length", ("no room",)),
    Broken(ORPO, "model_revision: main", "resume_from_checkpoint: x", "resume_from", ("continuation", "--resume")),
    Broken(ORPO, "- wandb", "- wandbb", "report_to", ("'wandbb'", "'wandb'?")),
    Broken(SCAN, "loss_type: sigmoid", "loss_type: sigmoidal", "loss_type", ("'sigmoidal'", "'sigmoid'?")),
    Broken(ANTHROPIC, "optim: rmsprop", "optimizer: rmsprop", "optimizer", ("Axolotl's name", "here it is optim")),
    Broken(ANTHROPIC, "do_train: true", "hub_token: hf_aaaaaaaaaaaa", "hub_token", ("a secret, not shown",)),
)


@pytest.mark.skipif(not HANDBOOK.exists(), reason="the handbook's recipes are not beside this repository")
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.says[0][:30])
def test_broken_recipe_names_file_line_and_near_name(broken: Broken, tmp_path: Path) -> None:
    source = (HANDBOOK / broken.recipe).read_text(encoding="utf-8")
    assert broken.old in source
    text = source.replace(broken.old, broken.new, 1)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(broken.line))
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(Path(broken.recipe).parent.name, path)
    error = str(caught.value)
    assert "has 1 problem:" in error
    assert f"mine.yaml:{line}:" in error or f"mine.yaml:{line + 1}:" in error
    for said in broken.says:
        assert said in error
    assert "Traceback" not in error
    assert "hf_aaa" not in error
