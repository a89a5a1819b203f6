"""A trained model stops by itself: reloaded from disk by plain transformers and generating with its defaults.

An answer that never ends is the commonest silent failure of fine-tuning, so three tokenizers that provoke it are each
trained on a task small enough to be learned, and nothing of poise takes part in the generation.
"""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from poise.recipe import load_recipe
from poise.run import Run
from poise.train.train import train

TOKENIZERS: dict[str, dict[str, Any]] = {
    "eos is not the template's end of turn": {"eos": "<|endoftext|>", "pad": "<|pad|>"},
    "pad equals eos": {"eos": "<|im_end|>", "pad": "<|im_end|>", "specials": ("<|im_start|>", "<|im_end|>")},
    "neither eos nor pad": {"eos": None, "pad": None, "specials": ()},
}
LEARNED = {"learning_rate": 7e-3, "per_device_train_batch_size": 32, "max_steps": 450, "logging_steps": 150}


@pytest.fixture(scope="module")
def taught(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a model that has learned the task, trained when it is first asked for."""

    @functools.cache
    def teach(case: str) -> Path:
        folder = tmp_path_factory.mktemp("taught")
        base = tiny.make_base(folder / "base", **TOKENIZERS[case])
        data = tiny.write_rows(folder / "rows.jsonl", tiny.copy_rows())
        keys = {"model_name_or_path": base, "dataset_name": data, "output_dir": folder / "run"}
        train(load_recipe("sft", None, tiny.settings(**keys, **LEARNED)), Run(folder / "run"))
        return folder / "run" / "model"

    return teach


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_trained_model_stops_by_itself_when_reloaded(case: str, tiny: Any, taught: Callable[[str], Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(taught(case))
    assert_stops_and_repeats(model, taught(case), tiny)


def test_an_adapter_stops_with_the_generation_settings_saved_beside_it(
    tiny: Any, taught: Callable[[str], Path], tmp_path: Path, train_run: Any
) -> None:
    """Peft takes the settings of the base, which knows no stop token here; the adapter's own must be enough."""
    before = shutil.copytree(taught("eos is not the template's end of turn"), tmp_path / "before")
    lora = {"use_peft": True, "lora_r": 16, "lora_dropout": 0, "lora_target_modules": "all-linear"}
    run = train_run(
        "sft", tiny.copy_rows(), model_name_or_path=before, **LEARNED | {"max_steps": 150}, **lora,
        chat_template="zephyr",
    )  # fmt: skip
    forgetful = AutoModelForCausalLM.from_pretrained(before)
    forgetful.generation_config.eos_token_id = forgetful.config.eos_token_id = None
    forgetful.save_pretrained(before)
    model = AutoPeftModelForCausalLM.from_pretrained(run.path / "model")
    assert model.generation_config.eos_token_id is None
    model.generation_config = GenerationConfig.from_pretrained(run.path / "model")
    assert_stops_and_repeats(model, run.path / "model", tiny)


def assert_stops_and_repeats(model: Any, folder: Path, tiny: Any) -> None:
    """Ask every training question the way a user of the saved model would."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    rows = [row["messages"] for row in tiny.copy_rows()]
    inputs = tokenizer.apply_chat_template(
        [messages[:1] for messages in rows],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
        padding=True,
    )
    answers = model.eval().generate(**inputs, max_new_tokens=16)[:, inputs["input_ids"].shape[1] :]
    stops = torch.tensor(model.generation_config.eos_token_id).flatten()
    stopped = torch.isin(answers, stops).any(dim=1).float().mean().item()
    said = tokenizer.batch_decode(answers, skip_special_tokens=True)
    exact = sum(text.strip() == messages[1]["content"] for text, messages in zip(said, rows, strict=True)) / len(rows)
    assert stopped >= 0.98, f"only {stopped:.0%} stop; said {said[:4]}"
    assert exact >= 0.95, f"only {exact:.0%} are right; said {said[:4]}"
