"""The reference is the policy as it was when the objective began, computed once, kept, and never somebody else's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poise.errors import DivergenceError, ModelError
from poise.run import Run

LORA = {"use_peft": True, "lora_r": 4, "lora_dropout": 0.1, "lora_target_modules": "all-linear"}
STEP = {"max_steps": 1, "learning_rate": 1e-3}


def first(run: Run) -> dict[str, Any]:
    return run.metrics()[0]


def test_a_second_run_computes_nothing_and_says_so(
    tiny: Any, train_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], losses: Any
) -> None:
    store = {"reference_cache": tmp_path / "store"}
    one = train_run("dpo", tiny.uneven_pairs(8), "one", **STEP, **store)
    assert one.manifest["reference"]["cached"] is False
    capsys.readouterr()
    two = train_run("dpo", tiny.uneven_pairs(8), "two", **STEP, **store, beta=0.5)
    assert two.manifest["reference"]["cached"] is True
    assert "all 8 rows found in" in capsys.readouterr().err
    assert losses(two) == losses(one)


def test_a_changed_row_alone_is_computed_again(
    tiny: Any, train_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = {"reference_cache": tmp_path / "store"}
    rows = tiny.uneven_pairs(8)
    train_run("dpo", rows, "one", **STEP, **store)
    capsys.readouterr()
    rows[3]["chosen"] += " indeed"
    train_run("dpo", rows, "two", **STEP, **store)
    assert "stage=reference done=1/1" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut off", "one bit", "not safetensors"])
def test_a_damaged_store_is_computed_again_with_a_word(
    damage: str, tiny: Any, train_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], losses: Any
) -> None:
    store = {"reference_cache": tmp_path / "store"}
    one = train_run("dpo", tiny.uneven_pairs(8), "one", **STEP, **store)
    (file,) = (tmp_path / "store" / "reference").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-2] ^= 0x40
    file.write_bytes({"cut off": content[:-100], "one bit": content, "not safetensors": b"no"}[damage])
    capsys.readouterr()
    two = train_run("dpo", tiny.uneven_pairs(8), "two", **STEP, **store)
    assert "is damaged; it is computed again" in capsys.readouterr().err
    assert two.manifest["reference"]["cached"] is False
    assert losses(two) == losses(one)


def test_new_tokens_with_other_random_embeddings_are_another_reference(
    tiny: Any, train_run: Any, tmp_path: Path
) -> None:
    base = tiny.make_base(tmp_path / "bare", eos=None, pad=None, specials=())
    for seed in (1, 2):
        run = train_run(
            "dpo", tiny.uneven_pairs(8), f"{seed}", **STEP, seed=seed, model_name_or_path=base, reference_cache=tmp_path
        )
        assert run.manifest["reference"]["cached"] is False
        assert first(run)["rewards/margins"] == pytest.approx(0, abs=1e-6)


def test_stored_values_equal_a_frozen_copy_and_the_model_without_its_adapter(
    tiny: Any, train_run: Any, base: Path, tmp_path: Path
) -> None:
    from peft import AutoPeftModelForCausalLM
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM

    from poise.batch.batch import make_batch
    from poise.batch.score import Scorer
    from poise.recipe import load_recipe
    from poise.train.train import prepare

    data = tiny.write_rows(tmp_path / "pairs.jsonl", tiny.uneven_pairs(8))
    values = {"model_name_or_path": base, "dataset_name": data, "output_dir": tmp_path / "run"}
    run = train_run("dpo", data, **STEP, **LORA, reference_cache=tmp_path / "store")
    (file,) = (tmp_path / "store" / "reference").glob("*.safetensors")
    stored = load_file(file)
    rows = prepare(load_recipe("dpo", None, tiny.settings(**values))).rendered.train
    assert stored.keys() == {row.digest() for row in rows}
    frozen = Scorer(AutoModelForCausalLM.from_pretrained(base).eval())
    adapted = AutoPeftModelForCausalLM.from_pretrained(run.path / "model").eval()
    for row in rows:
        batch = make_batch([row])
        with torch.no_grad(), adapted.disable_adapter():
            without_adapter = Scorer(adapted).one_by_one(batch).values.numpy()
        with torch.no_grad():
            copy = frozen.one_by_one(batch).values.numpy()
        assert np.allclose(stored[row.digest()], copy, atol=1e-5)
        assert np.allclose(stored[row.digest()], without_adapter, atol=1e-5)


@pytest.mark.parametrize("merged", [False, True], ids=["going on with the adapter", "merged"])
def test_preferences_after_an_adapter_start_from_the_adapted_policy(
    merged: bool, tiny: Any, train_run: Any, weights: Any
) -> None:
    taught = train_run("sft", tiny.uneven_rows(16), "sft", max_steps=20, learning_rate=1e-2, **LORA)
    pairs = tiny.uneven_pairs(16)
    tuning = {} if merged else LORA
    run = train_run("dpo", pairs, "dpo", **STEP, **tuning, model_name_or_path=taught.path / "model")
    assert first(run)["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert first(run)["rewards/margins"] == pytest.approx(0, abs=1e-5)
    untaught = train_run("dpo", pairs, "untaught", **STEP)
    assert abs(first(run)["logps/chosen"] - first(untaught)["logps/chosen"]) > 1
    again = train_run("dpo", pairs, "again", **STEP, **tuning, model_name_or_path=run.path / "model")
    assert first(again)["rewards/margins"] == pytest.approx(0, abs=1e-5)


def test_an_adapter_on_another_base_is_refused(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    base = tiny.make_base(tmp_path / "base")
    taught = train_run("sft", tiny.uneven_rows(4), "sft", **STEP, **LORA, model_name_or_path=base)
    tiny.make_model(base, vocabulary=len(_tokenizer(base)), seed=7)
    with pytest.raises(ModelError, match="was trained on base weights"):
        train_run("dpo", tiny.uneven_pairs(4), "dpo", **STEP, **LORA, model_name_or_path=taught.path / "model")


def test_the_same_adapter_has_the_same_shape(tiny: Any, train_run: Any) -> None:
    taught = train_run("sft", tiny.uneven_rows(4), "sft", **STEP, use_peft=True, lora_r=4)
    pairs, model = tiny.uneven_pairs(4), taught.path / "model"
    shape = {"use_peft": True, "lora_r": 8, "adapter_continuation": "same"}
    with pytest.raises(ModelError, match="an adapter with lora_r 4, the recipe says 8"):
        train_run("dpo", pairs, "other", **STEP, **shape, model_name_or_path=model)
    train_run("dpo", pairs, "same", **STEP, use_peft=True, lora_r=4, model_name_or_path=model)


def test_a_reference_that_is_not_the_policy_is_refused(tiny: Any, base: Path, tmp_path: Path) -> None:
    """A store written under this hash by other weights, its checksum correct."""
    from transformers import AutoModelForCausalLM

    from poise.batch.score import Scorer
    from poise.recipe import load_recipe
    from poise.train.check import check_reference
    from poise.train.model import choose_hardware
    from poise.train.reference import reference_for
    from poise.train.train import prepare

    data = tiny.write_rows(tmp_path / "pairs.jsonl", tiny.uneven_pairs(8))
    overrides = tiny.settings(model_name_or_path=base, dataset_name=data, output_dir=tmp_path / "run")
    recipe = load_recipe("dpo", None, overrides)
    rows = prepare(recipe).rendered.train
    other = tiny.make_base(tmp_path / "other", seed=1, initializer_range=1.0)
    policy, stranger = (Scorer(AutoModelForCausalLM.from_pretrained(path)) for path in (base, other))
    wrong = reference_for(rows, stranger, "hash", tokens=512, store=None)
    hardware = choose_hardware(recipe.model, bf16=False, use_cpu=True)
    check_reference(stranger, rows, wrong, hardware)
    with pytest.raises(DivergenceError, match="the reference is not the policy at the start"):
        check_reference(policy, rows, wrong, hardware)


def test_the_recipe_may_name_another_reference(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    other = tiny.make_base(tmp_path / "other", seed=1)
    run = train_run("dpo", tiny.uneven_pairs(8), **STEP, ref_model_name_or_path=other)
    assert abs(first(run)["rewards/chosen"]) > 1e-4
    assert (
        json.loads((run.path / "manifest.json").read_text())["reference"]["sha256"]
        != run.manifest["model"]["weights_sha256"]
    )


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
