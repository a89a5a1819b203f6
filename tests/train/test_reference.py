"""The reference is the policy as it was when the objective began, computed once, kept, and never somebody else's."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poise.errors import DivergenceError, ModelError
from poise.run import Run
from poise.train.store import Store

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
    assert one.manifest["reference"]["computed"] == 8
    assert "reference: 8 rows computed in " in capsys.readouterr().err
    for name, sweep in (("beta", {"beta": 0.5}), ("rate", {"learning_rate": 3e-4}), ("LoRA", LORA)):
        two = train_run("dpo", tiny.uneven_pairs(8), name, **STEP | store | sweep)
        assert two.manifest["reference"].items() >= {"cached": True, "computed": 0}.items()
        assert two.manifest["reference"]["seconds"] < 0.1
        told = capsys.readouterr().err
        assert re.search(r"reference: all 8 rows reused from \S+, 0 computed, 0\.\d s", told)
        assert "stage=reference" not in told
        assert losses(two) == losses(one)


def test_unpaired_answers_are_reused_too(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    store = {"reference_cache": tmp_path / "store", "per_device_train_batch_size": 4}
    rows = [
        {"prompt": f"Say {word}", "completion": word, "label": index % 3 > 0} for index, word in enumerate(tiny.WORDS)
    ]
    one, two = (train_run("kto", rows, f"{beta}", **STEP | store, beta=beta) for beta in (0.1, 0.5))
    assert one.manifest["reference"]["computed"] == 20
    assert two.manifest["reference"]["computed"] == 0
    assert first(two)["logps/chosen"] == first(one)["logps/chosen"]


def test_a_recipe_without_a_store_keeps_nothing(
    tiny: Any, train_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POISE_CACHE", str(tmp_path / "cache"))
    for name in ("one", "two"):
        assert train_run("dpo", tiny.uneven_pairs(4), name, **STEP).manifest["reference"]["computed"] == 4
    assert not (tmp_path / "cache" / "reference").exists()


@pytest.mark.parametrize("verb", ["sft", "orpo"])
def test_objectives_without_a_reference_never_touch_the_store(
    verb: str, tiny: Any, train_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "read", lambda *_: pytest.fail("the store was read"))
    rows = tiny.uneven_rows(4) if verb == "sft" else tiny.uneven_pairs(4)
    run = train_run(verb, rows, **STEP, reference_cache=tmp_path / "store")
    assert run.manifest["reference"] is None
    assert not (tmp_path / "store").exists()


def test_a_changed_row_alone_is_computed_again(
    tiny: Any, train_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = {"reference_cache": tmp_path / "store"}
    rows = tiny.uneven_pairs(8)
    train_run("dpo", rows, "one", **STEP, **store)
    capsys.readouterr()
    rows[3]["chosen"] += " indeed"
    train_run("dpo", rows, "two", **STEP, **store)
    told = capsys.readouterr().err
    assert "stage=reference done=1/1" in told
    assert "7 rows reused from" in told
    assert ", 1 computed, " in told


@pytest.mark.parametrize("damage", ["cut off", "one bit", "not safetensors"])
def test_a_damaged_store_is_computed_again_with_a_word(
    damage: str, tiny: Any, train_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], losses: Any
) -> None:
    from safetensors.numpy import load_file

    store = {"reference_cache": tmp_path / "store"}
    one = train_run("dpo", tiny.uneven_pairs(8), "one", **STEP, **store)
    (file,) = (tmp_path / "store").glob("reference/*/*.safetensors")
    content = bytearray(file.read_bytes())
    content[content.index(load_file(file)["values"][:8].tobytes())] ^= 0x40
    file.write_bytes({"cut off": content[:-100], "one bit": content, "not safetensors": b"no"}[damage])
    capsys.readouterr()
    two = train_run("dpo", tiny.uneven_pairs(8), "two", **STEP, **store)
    assert "computed again" in capsys.readouterr().err
    assert two.manifest["reference"]["computed"] == (1 if damage == "one bit" else 8)
    assert losses(two) == pytest.approx(losses(one), rel=1e-6)
    three = train_run("dpo", tiny.uneven_pairs(8), "three", **STEP, **store)
    assert "warning" not in capsys.readouterr().err
    assert three.manifest["reference"]["computed"] == 0


def test_no_flipped_bit_of_a_file_goes_unseen(tmp_path: Path) -> None:
    """One bit of every byte in turn: each row comes back as it was, or not at all, and most others with it."""
    rows = {f"{index:064x}": np.linspace(-index, 0, index + 1, dtype=np.float32) for index in range(1, 5)}
    store = Store(tmp_path)
    store.write(rows)
    (file,) = tmp_path.iterdir()
    sound = file.read_bytes()
    header = 8 + int.from_bytes(sound[:8], "little")
    for place in range(len(sound)):
        content = bytearray(sound)
        content[place] ^= 1 << place % 8
        file.write_bytes(content)
        found = store.read(rows)
        assert all(np.array_equal(values, rows[digest]) for digest, values in found.items()), place
        assert place < header or len(found) >= 2, place


WRITER = """
import pathlib, sys
import numpy as np
from poise.train.store import Store

store, writer = Store(pathlib.Path(sys.argv[1])), int(sys.argv[2])
for start in range(writer * 20, writer * 20 + 20):
    rows = [index % 60 for index in range(start, start + 3)]
    mine = {f"{index:064x}": np.full(index % 7, index, np.float32) for index in rows}
    store.write(mine)
    found = store.read(mine)
    assert all(np.array_equal(found[digest], values) for digest, values in mine.items())
"""


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    """Processes that write overlapping rows, and read them back, while the others do."""
    started = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(writer)]) for writer in range(3)]
    assert [process.wait(timeout=60) for process in started] == [0, 0, 0]
    found = Store(tmp_path).read([f"{index:064x}" for index in range(60)])
    assert {int(digest, 16): values.tolist() for digest, values in found.items()} == {
        index: [index] * (index % 7) for index in range(60)
    }
    assert all(file.suffix == ".safetensors" for file in tmp_path.iterdir())


def test_a_stopped_pass_keeps_what_it_computed(
    tiny: Any, train_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from poise.batch.score import Scorer

    store = {"reference_cache": tmp_path / "store", "tokens_per_micro_batch": 40}
    calls = iter(range(100))
    forward = Scorer.forward

    def stopped(self: Scorer, batch: Any) -> Any:
        if not torch.is_grad_enabled() and next(calls) == 6:
            raise KeyboardInterrupt
        return forward(self, batch)

    monkeypatch.setattr(Scorer, "forward", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_run("dpo", tiny.uneven_pairs(16), "one", **STEP, **store)
    monkeypatch.undo()
    run = train_run("dpo", tiny.uneven_pairs(16), "one", **STEP, **store)
    assert 0 < run.manifest["reference"]["computed"] < 16


def test_a_store_that_cannot_be_written_stops_nothing(
    tiny: Any, train_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").write_text("a file, no folder")
    train_run("dpo", tiny.uneven_pairs(4), **STEP, reference_cache=tmp_path / "store")
    assert "warning: cannot keep the reference in" in capsys.readouterr().err


def test_settings_that_change_the_model_change_the_reference(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    """The same weights under another rotary base, and the same adapter at another scale."""
    base = tiny.make_base(tmp_path / "base")
    store = {"reference_cache": tmp_path / "store"}
    taught = train_run("sft", tiny.uneven_rows(8), "sft", **STEP, **LORA, model_name_or_path=base)
    for name, folder, key, file in (
        ("base", base, "rope_parameters", "config.json"),
        ("adapter", taught.path / "model", "lora_alpha", "adapter_config.json"),
    ):
        for again in ("", " again"):
            run = train_run("dpo", tiny.uneven_pairs(4), name + again, **STEP, **store, model_name_or_path=folder)
            assert run.manifest["reference"]["computed"] == 4, name + again
            config = json.loads((folder / file).read_text())
            config[key] = config[key] * 2 if key == "lora_alpha" else config[key] | {"rope_theta": 500.0}
            (folder / file).write_text(json.dumps(config))


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
    from transformers import AutoModelForCausalLM

    from poise.batch.batch import make_batch
    from poise.batch.score import Scorer
    from poise.recipe import load_recipe
    from poise.train.prepare import prepare

    data = tiny.write_rows(tmp_path / "pairs.jsonl", tiny.uneven_pairs(8))
    values = {"model_name_or_path": base, "dataset_name": data, "output_dir": tmp_path / "run"}
    run = train_run("dpo", data, **STEP, **LORA, reference_cache=tmp_path / "store")
    (folder,) = (tmp_path / "store" / "reference").iterdir()
    rows = prepare(load_recipe("dpo", None, tiny.settings(**values))).rendered.train
    stored = Store(folder).read([row.digest() for row in rows])
    assert len(stored) == 8
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
    from poise.train.prepare import prepare
    from poise.train.reference import reference_for

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
