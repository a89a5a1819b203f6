"""Merging: the model on disk is the unmerged one, or nothing is written."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from helpers import tiny
from poise.cli import poise
from poise.errors import DivergenceError, ModelError, RunError
from poise.publish.merge import merge


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merge")
    tiny.make_base(folder / "base")
    tiny.make_base(folder / "other", seed=1)
    tiny.write_rows(folder / "chats.jsonl", tiny.copy_rows())
    return folder


def train(place: Path, name: str, **keys: Any) -> Path:
    from poise.recipe import load_recipe
    from poise.workflow import train_and_report

    given = {"model_name_or_path": place / "base", "use_peft": True, "lora_r": 4, "max_steps": 12, "question_count": 3,
             "learning_rate": 1e-2, "max_new_tokens": 4}  # fmt: skip
    data = {"dataset_name": place / "chats.jsonl", "output_dir": place / name}
    train_and_report(load_recipe("sft", None, tiny.settings(**given | data | keys)), overwrite=True)
    return place / name


@pytest.fixture(scope="module")
def lora(place: Path) -> Path:
    return train(place, "lora")


def logits(folder: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        return model(input_ids=torch.arange(4, 30)[None]).logits


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"use_dora": True},
        {"lora_target_modules": ["q_proj", "embed_tokens"]},
        {"lora_modules_to_save": ["embed_tokens"]},
    ],
    ids=lambda keys: ",".join(keys) or "lora",
)
def test_the_merged_model_computes_what_the_adapted_one_does(place: Path, keys: dict[str, Any], tmp_path: Path) -> None:
    run = train(place, "run", **keys)
    made = merge(run, tmp_path / "merged")
    assert made["largest_logit_difference"] <= 1e-5
    assert made["same_answers"] == made["prompts"] == 3
    assert (logits(tmp_path / "merged") - logits(place / "base")).abs().max() > 1e-3
    written = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert written == made
    assert written["base_known_by_hash"]


def test_stacked_adapters_are_merged_by_command(place: Path, lora: Path, tmp_path: Path) -> None:
    upper = train(place, "upper", model_name_or_path=lora / "model", adapter_continuation="stack", lora_r=6,
                  lora_target_modules=["q_proj", "up_proj"])  # fmt: skip
    assert json.loads((upper / "model" / "adapter_config.json").read_text())["r"] == 10  # 4 beneath and 6
    command = ["merge", str(upper), "--out", str(tmp_path / "merged"), "--json"]
    made = json.loads(CliRunner().invoke(poise, command, catch_exceptions=False).stdout)
    assert made["largest_logit_difference"] <= 1e-5
    assert made["same_answers"] == made["prompts"] == 3
    merge(lora, tmp_path / "lower")
    assert (logits(tmp_path / "merged") - logits(tmp_path / "lower")).abs().max() > 1e-3


def test_rows_of_added_tokens_are_merged_too(place: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    bare = tiny.make_base(tmp_path / "bare", specials=("<|endoftext|>", "<|pad|>"))
    run = train(place, "grown", model_name_or_path=bare)
    made = merge(run, tmp_path / "merged")
    assert made["largest_logit_difference"] <= 1e-5
    known, grown = (AutoTokenizer.from_pretrained(folder) for folder in (bare, tmp_path / "merged"))
    new = grown.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert min(new) >= len(known)
    assert logits(tmp_path / "merged").shape[-1] == max(new) + 1 == logits(bare).shape[-1] + 2


def test_what_is_written_is_a_model_with_tokenizer_template_and_stop_tokens(lora: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    merge(lora, tmp_path / "merged", dtype="bfloat16")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template
    generation = GenerationConfig.from_pretrained(tmp_path / "merged")
    stops = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in stops
    assert logits(tmp_path / "merged").dtype == torch.bfloat16


def test_another_base_is_refused(place: Path, lora: Path, tmp_path: Path) -> None:
    shutil.copytree(lora, tmp_path / "run")
    file = tmp_path / "run" / "model" / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"base_model_name_or_path": str(place / "other")}))
    with pytest.raises(ModelError, match="was trained on base weights"):
        merge(tmp_path / "run", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_what_differs_too_much_is_refused_with_the_numbers_and_leaves_nothing(lora: Path, tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"largest difference of a logit [\d.e-]+, allowed is 1e-12"):
        merge(lora, tmp_path / "merged", dtype="bfloat16", tolerance=1e-12)
    assert not list(tmp_path.iterdir())


def test_a_run_without_an_adapter_and_a_full_folder_are_refused(place: Path, lora: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no adapter"):
        merge(place / "base", tmp_path / "merged")
    with pytest.raises(RunError, match="is not empty"):
        merge(lora, place / "other")


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("key", ["load_in_4bit", pytest.param("load_in_8bit", marks=pytest.mark.slow)])
def test_an_adapter_over_quantized_weights_is_merged_into_what_they_stand_for(
    place: Path, tmp_path: Path, key: str
) -> None:
    made = merge(train(place, key, **{key: True}), tmp_path / "merged", dtype="float32")
    assert made["quantized_base"] == key.removeprefix("load_in_")
    assert made["largest_logit_difference"] <= 1e-5
    assert (logits(tmp_path / "merged") - logits(place / "base")).abs().max() > 1e-3
