"""Every recipe in recipes/ resolves for its folder's objective and trains two steps with a tiny model in its place.

Those in recipes/curate/ are read with all that they name, and nothing is loaded.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from poise.curate.curation import load_curation
from poise.recipe import load_recipe
from poise.run import Run
from poise.train.train import train

RECIPES = Path(__file__).parents[1] / "recipes"
FILES = sorted(RECIPES.glob("*/*/*.yaml"))
CURATIONS = sorted((RECIPES / "curate").glob("*.yaml"))
ROWS: dict[str, list[dict[str, Any]]] = {
    "cpt": [{"text": f"{n} plus one is {n + 1}."} for n in range(6)],
    "sft": [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "yes"}]} for n in range(6)
    ],
    "pairs": [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(6)],
}

every_recipe = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a two-layer Llama with a byte tokenizer, and for each kind of rows a folder of two splits."""
    folder = tmp_path_factory.mktemp("places")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<pad>", "</s>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        ["yes no"], trainers.BpeTrainer(special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(wrapped), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    wrapped.save_pretrained(folder / "model")
    for kind, rows in ROWS.items():
        (folder / kind).mkdir()
        for split, part in (("train", rows[:4]), ("test", rows[4:])):
            (folder / kind / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


def test_there_are_recipes_for_every_objective() -> None:
    assert {path.parent.name for path in FILES} == {"cpt", "sft", "dpo", "orpo"}


@every_recipe
def test_a_shipped_recipe_resolves_and_says_where_its_values_come_from(path: Path) -> None:
    recipe = load_recipe(path.parent.name, path)
    assert recipe.verb == path.parent.name
    assert not [note for note in recipe.notes if "not installed" not in note.why], "every line of a shipped recipe acts"
    assert path.read_text().count("\n#") >= 2, "the comment names the source of the values"


@every_recipe
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*is deprecated:FutureWarning")  # peft 0.21's old names
def test_a_shipped_recipe_trains(path: Path, places: Path, tmp_path: Path) -> None:
    rows = path.parent.name if path.parent.name in ROWS else "pairs"
    recipe = load_recipe(
        path.parent.name,
        path,
        [
            f"model_name_or_path={places / 'model'}",
            f"dataset_name={places / rows}",
            "dataset_train_split=train",
            "dataset_test_split=test",
            f"output_dir={tmp_path / 'run'}",
            f"reference_cache={tmp_path / 'cache'}",
            "max_steps=2",
            "eval_steps=2",
            "logging_steps=1",
            "use_cpu=true",
            "bf16=false",
            "torch_dtype=float32",
            "load_in_4bit=false",
            "optim=adamw_torch",  # the paged one needs a GPU
        ],
    )
    run = Run(tmp_path / "run")
    train(recipe, run)
    losses = [line["loss"] for line in run.metrics() if "loss" in line]
    assert run.manifest["status"] == "done"
    assert len(losses) == 2
    assert all(0 < loss < 20 for loss in losses)
    assert list((run.path / "model").glob("*.safetensors"))


def test_there_are_recipes_for_curation() -> None:
    assert {path.stem for path in CURATIONS} == {"bagel", "mini-platypus", "zephyr-dpo", "zephyr-sft"}


@pytest.mark.parametrize("path", CURATIONS, ids=lambda path: path.stem)
def test_a_shipped_curation_has_no_mistake_and_accepts_no_risk(path: Path) -> None:
    curation = load_curation(path)
    assert curation.out == f"curated/{path.stem}"
    assert curation.named_steps()
    assert not any(entry.accept_risk for entry in curation.sources)
    assert path.read_text().count("\n#") >= 2, "the comment names the source of the values"
