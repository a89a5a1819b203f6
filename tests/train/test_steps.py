"""An optimizer step is the recipe's, however it is cut: same losses, same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

CUTS: dict[str, dict[str, Any]] = {
    "4 x 2": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "2 x 4": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    "1 x 8": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
    "micro-batches of 40 tokens": {"tokens_per_micro_batch": 40},
    "every row alone": {"tokens_per_micro_batch": 1},
    "nothing shared": {"prefix_sharing": "off"},
}


LORA = {"use_peft": True, "lora_r": 4, "lora_dropout": 0, "lora_target_modules": "all-linear"}


@pytest.mark.parametrize("tuning", [{}, LORA], ids=["full", "LoRA"])
@pytest.mark.parametrize("verb", ["sft", "dpo", "orpo"])
def test_cutting_a_step_changes_neither_losses_nor_weights(
    verb: str, tuning: dict[str, Any], tiny: Any, train_run: Any, weights: Any, losses: Any
) -> None:
    rows = tiny.uneven_rows(21) if verb == "sft" else tiny.uneven_pairs(21)
    steps = {"learning_rate": 3e-4, "per_device_train_batch_size": 8, "num_train_epochs": 2, **tuning}
    whole = train_run(verb, rows, "whole", **steps)
    expected = weights(whole.path / "model")
    assert len(losses(whole)) == 6
    for name, cut in CUTS.items():
        run = train_run(verb, rows, name, **steps | cut)
        assert losses(run) == pytest.approx(losses(whole), rel=1e-6), name
        for key, tensor in weights(run.path / "model").items():
            assert torch.allclose(tensor, expected[key], rtol=0, atol=1e-5), f"{name}: {key}"


def test_the_loss_is_the_mean_over_all_trained_tokens_of_the_step(tiny: Any, train_run: Any, base: Path) -> None:
    """Derived with transformers alone: every row by itself, summed, divided by the count of trained tokens."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = tiny.uneven_rows(8)
    run = train_run("sft", rows, per_device_train_batch_size=8, max_steps=1)
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    total, count = 0.0, 0
    for row in rows:
        question, answer = (message["content"] for message in row["messages"])
        prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        before = tokenizer(prompt)["input_ids"]
        completion = tokenizer(f"{answer}<|im_end|>")["input_ids"]
        ids = torch.tensor([before + completion])
        logps = model(ids).logits[0].log_softmax(-1)[torch.arange(ids.shape[1] - 1), ids[0, 1:]]
        total -= logps[len(before) - 1 :].sum().item()
        count += len(completion)
    assert run.metrics()[0]["loss"] == pytest.approx(total / count, abs=1e-5)


def test_continued_pretraining_joins_nothing_across_packed_documents(tiny: Any, base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from poise.batch.batch import make_batch
    from poise.batch.row import Row
    from poise.batch.score import Scorer
    from poise.recipe import load_recipe
    from poise.train.prepare import prepare

    texts = [" ".join(tiny.WORDS[index : index + 4 + index % 5]) for index in range(12)]
    data = tiny.write_rows(tmp_path / "documents.jsonl", [{"text": text} for text in texts])
    overrides = tiny.settings(model_name_or_path=base, dataset_name=data, output_dir=tmp_path / "run", max_length=32)
    prepared = prepare(load_recipe("cpt", None, overrides))
    packed = prepared.rendered.train
    assert len(packed) < len(texts)
    assert all(row.tokens <= 32 for row in packed)
    scorer = Scorer(AutoModelForCausalLM.from_pretrained(base).eval())
    apart = {row.id: row for row in prepared.renderer.rows(prepared.loaded.train) if isinstance(row, Row)}
    for row in packed:
        with torch.no_grad():
            together = scorer(make_batch([row])).values
            alone = torch.cat([scorer.one_by_one(make_batch([apart[each]])).values for each in row.id.split("+")])
        assert torch.allclose(together, alone, atol=1e-5)


def test_a_long_document_is_cut_and_all_of_it_is_used(tiny: Any, train_run: Any) -> None:
    text = " ".join(tiny.WORDS * 4)
    run = train_run("cpt", [{"text": text}, {"text": "apple"}], max_length=32, max_steps=1)
    assert run.ledger()["dropped"] == {}
    assert run.manifest["data"]["rows"] > 1
    assert run.manifest["data"]["tokens"] >= len(tiny.WORDS) * 4


def test_the_planned_number_of_steps_is_the_number_trained(tiny: Any, train_run: Any, losses: Any) -> None:
    for epochs in (1, 1.5, 2.4):
        run = train_run(
            "sft", tiny.uneven_rows(11), f"{epochs}", per_device_train_batch_size=4, num_train_epochs=epochs
        )
        assert run.manifest["optimizer_steps"] == len(losses(run)), epochs


def test_the_best_checkpoint_is_kept_and_loaded_at_the_end(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    """A learning rate that wrecks the model: the held-out loss is lowest at the first evaluation."""
    from safetensors.torch import load_file

    rows = tiny.write_rows(tmp_path / "data" / "train.jsonl", tiny.uneven_rows(16))
    tiny.write_rows(tmp_path / "data" / "test.jsonl", tiny.uneven_rows(4))
    run = train_run(
        "sft", rows.parent, max_steps=4, learning_rate=3.0, dataset_test_split="test", eval_strategy="steps",
        eval_steps=1, save_strategy="steps", save_steps=1, save_total_limit=1, load_best_model_at_end=True,
        on_divergence="warn",
    )  # fmt: skip
    losses = {line["step"]: line["eval_loss"] for line in run.metrics()}
    best = min(losses, key=lambda step: losses[step])
    assert best < 4
    kept = load_file(run.path / "checkpoints" / f"checkpoint-{best}" / "model.safetensors")
    saved = load_file(run.path / "model" / "model.safetensors")
    assert all(torch.equal(kept[name], saved[name]) for name in saved)


@pytest.mark.parametrize(("strategy", "in_order"), [("sequential", True), ("group_by_length", False)])
def test_rows_come_in_the_order_of_the_file_where_that_is_asked_for(
    strategy: str, in_order: bool, tiny: Any, train_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from poise.train.guard import Guard

    seen: list[str] = []
    loss = Guard.loss

    def noted(guard: Guard, step: int, value: float, rows: Any) -> None:
        seen.extend(row.place for row in rows)
        loss(guard, step, value, rows)

    monkeypatch.setattr(Guard, "loss", noted)
    run = train_run("sft", tiny.uneven_rows(12), per_device_train_batch_size=4, train_sampling_strategy=strategy)
    places = [f"run.jsonl:{number}" for number in range(1, 13)]
    assert sorted(seen) == sorted(places)
    assert (seen == places) == in_order
    assert any("train_sampling_strategy" in note for note in run.manifest["notes"]) != in_order
