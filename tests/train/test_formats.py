"""Rows that carry a chat template of their own are trained in it, from a curated folder to the saved model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poise.curate.curation import Curation
from poise.curate.pipeline import curate

FOUR = ["alpaca", "vicuna", "llama-2", "chatml"]
TURNS = (("user", "Say apple"), ("assistant", "apple"), ("user", "Say moon"), ("assistant", "moon"))
TWO = {"messages": [{"role": role, "content": text} for role, text in TURNS]}


@pytest.fixture
def curated(tmp_path: Path, tiny: Any) -> Callable[..., Path]:
    """Curate rows and a document in formats; returns the folder."""

    def make(rows: list[dict[str, Any]], **formats: Any) -> Path:
        chats = tiny.write_rows(tmp_path / "rows.jsonl", rows)
        texts = tiny.write_rows(tmp_path / "texts.jsonl", [{"text": "apple bread cloud"}])
        sources = [{"path": str(chats)}, {"path": str(texts)}]
        curate(Curation(out=str(tmp_path / "curated"), sources=sources, formats=formats))  # type: ignore[arg-type]
        return tmp_path / "curated"

    return make


@pytest.fixture
def plain_base(tmp_path: Path, tiny: Any) -> Path:
    """An untrained model whose vocabulary has none of ChatML's tokens, with Llama's names of its ends."""
    return tiny.make_base(tmp_path / "plain", eos="</s>", pad=None, specials=("<s>", "</s>"))


def shown(base: Path, data: Path, verb: str, tiny: Any, template: str = "chatml") -> list[str]:
    """Return what `poise mask` shows of every row, without its head and counts."""
    from poise.batch.show import mask_text
    from poise.recipe import load_recipe
    from poise.train.prepare import prepare

    chosen = {"model_name_or_path": base, "dataset_name": data, "output_dir": data / "run", "max_length": 250,
              "chat_template": template}  # fmt: skip
    prepared = prepare(load_recipe(verb, None, tiny.settings(**chosen)))
    return [mask_text(row, prepared.tokenizer.tokenizer) for row in prepared.rendered.train]


def test_two_steps_on_four_formats_leave_a_model_that_stops_in_each(
    curated: Any, plain_base: Path, tiny: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    from poise.recipe import load_recipe
    from poise.run import Run
    from poise.train.train import train

    folder = curated(tiny.uneven_rows(4), use=FOUR)
    chosen = {"model_name_or_path": plain_base, "dataset_name": folder, "output_dir": tmp_path / "run",
              "chat_template": "zephyr", "max_length": 250, "max_steps": 2,
              "per_device_train_batch_size": 4}  # fmt: skip
    run = Run(tmp_path / "run")
    train(load_recipe("sft", None, tiny.settings(**chosen)), run)
    manifest, saved = run.manifest, run.path / "model"
    tokenizer = AutoTokenizer.from_pretrained(saved)
    stops = [tokenizer.get_vocab()[token] for token in ("</s>", "<|im_end|>")]
    config = GenerationConfig.from_pretrained(saved)
    assert config.eos_token_id == stops
    assert config.pad_token_id not in stops
    assert tokenizer.eos_token == "</s>"
    assert "<|assistant|>" in tokenizer.chat_template
    rows = AutoModelForCausalLM.from_pretrained(saved).get_input_embeddings().weight.shape[0]
    assert rows >= len(tokenizer)
    assert (manifest["data"]["rows"], manifest["optimizer_steps"]) == (16, 2)
    assert manifest["model"]["stop_tokens"] == ["</s>", "<|im_end|>"]
    assert (
        "rows come in chat templates of their own (alpaca 4, chatml 4, llama-2 4, vicuna 4); questions before and "
        "after are asked in zephyr, which is saved with the model"
    ) in manifest["notes"]


def test_mask_shows_each_row_in_its_format_and_expanded_rows_with_their_last_answer(
    curated: Any, plain_base: Path, tiny: Any
) -> None:
    whole = shown(plain_base, curated([TWO], use=["llama-2", "chatml"]), "sft", tiny)
    assert [text.splitlines()[1:-1] for text in whole] == [
        ["[INST] Say apple [/INST]⟦ apple </s>⟧[INST] Say moon [/INST]⟦ moon </s>⟧"],
        ["<|im_start|>user", "Say apple<|im_end|>", "<|im_start|>assistant", "⟦apple<|im_end|>⟧",
         "<|im_start|>user", "Say moon<|im_end|>", "<|im_start|>assistant", "⟦moon<|im_end|>⟧", ""],
    ]  # fmt: skip
    each = shown(plain_base, curated([TWO], use=["llama-2", "tokenizer"], turns="each"), "sft", tiny)
    assert [text.splitlines()[1:-1] for text in each] == [
        ["[INST] Say apple [/INST]⟦ apple </s>⟧"],
        ["<|im_start|>user", "Say apple<|im_end|>", "<|im_start|>assistant", "⟦apple<|im_end|>⟧", ""],
        ["[INST] Say apple [/INST] apple </s>[INST] Say moon [/INST]⟦ moon </s>⟧"],
        ["<|im_start|>user", "Say apple<|im_end|>", "<|im_start|>assistant", "apple<|im_end|>",
         "<|im_start|>user", "Say moon<|im_end|>", "<|im_start|>assistant", "⟦moon<|im_end|>⟧", ""],
    ]  # fmt: skip


def test_pairs_and_documents_come_back_from_the_same_folder(curated: Any, plain_base: Path, tiny: Any) -> None:
    folder = curated([{"prompt": "Say apple", "chosen": "apple", "rejected": "moon"}], use=FOUR, policy="slices")
    texts = shown(plain_base, folder, "dpo", tiny, "zephyr")
    begins = [text.splitlines()[1][:12] for text in texts]
    known = ["Below is an ", "A chat betwe", "[INST] Say a", "<|im_start|>"]
    assert len(texts) == 3 and set(begins) < set(known)
    assert all("<|user|>" not in text for text in texts)
    (document,) = shown(plain_base, folder, "cpt", tiny)
    assert "⟦pple bread cloud" in document or "⟦ bread cloud" in document


def test_training_holds_out_a_question_in_all_of_its_formats(curated: Any, plain_base: Path, tiny: Any) -> None:
    from poise.recipe import load_recipe
    from poise.train.data import load_examples

    folder = curated(tiny.uneven_rows(8), use=FOUR)
    mixture = json.dumps({"datasets": [{"id": str(folder)}], "test_split_size": 0.3})
    overrides = [f"model_name_or_path={plain_base}", f"dataset_mixture={mixture}", f"output_dir={folder}/run"]
    recipe = load_recipe("sft", None, overrides)
    loaded = load_examples(recipe.data, recipe.objective.rows, "sft")
    train, held_out = ({example.messages[:1] for example in rows} for rows in (loaded.train, loaded.held_out))  # type: ignore[union-attr]
    assert train and held_out
    assert not train & held_out
    assert len(loaded.held_out) == 4 * len(held_out)
