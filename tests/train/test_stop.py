"""A trained model stops by itself: reloaded from disk by plain transformers and generating with its defaults.

An answer that never ends is the commonest silent failure of fine-tuning, so three tokenizers that provoke it are each
trained on a task small enough to be learned, and nothing of poise takes part in the generation.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

TOKENIZERS: dict[str, dict[str, Any]] = {
    "eos is not the template's end of turn": {"eos": "<|endoftext|>", "pad": "<|pad|>"},
    "pad equals eos": {"eos": "<|im_end|>", "pad": "<|im_end|>", "specials": ("<|im_start|>", "<|im_end|>")},
    "neither eos nor pad": {"eos": None, "pad": None, "specials": ()},
}
LEARNED = {"learning_rate": 7e-3, "per_device_train_batch_size": 32, "max_steps": 450, "logging_steps": 150}


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_trained_model_stops_by_itself_when_reloaded(case: str, tiny: Any, tmp_path: Path, train_run: Any) -> None:
    base = tiny.make_base(tmp_path / "base", **TOKENIZERS[case])
    run = train_run("sft", tiny.copy_rows(), model_name_or_path=base, **LEARNED)
    model = AutoModelForCausalLM.from_pretrained(run.path / "model")
    assert_stops_and_repeats(model, run.path / "model", tiny)


def test_an_adapter_stops_with_the_generation_settings_saved_beside_it(
    tiny: Any, tmp_path: Path, train_run: Any
) -> None:
    """Peft takes the settings of the base, which knows no stop token here; the adapter's own must be enough."""
    base = tiny.make_base(tmp_path / "base")
    before = train_run("sft", tiny.copy_rows(), "before", model_name_or_path=base, **LEARNED)
    lora = {"use_peft": True, "lora_r": 16, "lora_dropout": 0, "lora_target_modules": "all-linear"}
    run = train_run(
        "sft", tiny.copy_rows(), model_name_or_path=before.path / "model", **LEARNED | {"max_steps": 150}, **lora,
        chat_template="zephyr",
    )  # fmt: skip
    forgetful = AutoModelForCausalLM.from_pretrained(before.path / "model")
    forgetful.generation_config.eos_token_id = forgetful.config.eos_token_id = None
    forgetful.save_pretrained(before.path / "model")
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
