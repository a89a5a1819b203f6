"""Memory that runs out in the middle of a run, and activation checkpointing, which needs less of it."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poise.batch.row import Row, Segment
from poise.errors import ResourceError
from poise.run import Run
from poise.train.memory import NoRoomError, fitting, is_out_of_memory, room_for


@pytest.fixture(scope="module")
def wide(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose activations, not its weights, fill the memory: 40 KiB for each token and layer."""
    return tiny.make_base(tmp_path_factory.mktemp("wide"), intermediate_size=1024, num_hidden_layers=3)


def in_a_process(tiny: Any, forks: Any, room: int, **values: Any) -> dict[str, Any]:
    """Train in a process of its own, whose address space may grow by `room` bytes from when training begins."""
    folder = Path(values["output_dir"])
    log, told = folder.with_suffix(".log"), folder.with_suffix(".grown")
    space = {"room": room, "told": str(told)}
    assert forks.run("sft", tiny.settings(**values), log=log, space=space) == 0, log.read_text()[-3000:]
    run = Run(folder)
    return {
        "grown": int(told.read_text()),
        "notes": run.manifest["notes"],
        "peak": run.metrics()[-1]["peak_memory_bytes"],
        "stderr": log.read_text(),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited and read as Linux does")
def test_a_run_that_runs_out_of_memory_ends_as_with_the_smaller_budget(
    tiny: Any, forks: Any, wide: Path, tmp_path: Path, weights: Any
) -> None:
    """A real limit, half-way between what the two budgets take; dropout shows that random numbers are drawn anew.

    A step is 32 rows of 91 tokens, all in one micro-batch, then 16 rows in each of two.
    """
    data = tiny.write_rows(tmp_path / "rows.jsonl", [tiny.conversation(" ".join(tiny.WORDS * 4), "moon")] * 64)
    keys = {"model_name_or_path": wide, "dataset_name": data, "per_device_train_batch_size": 32,
            "max_steps": 2, "learning_rate": 1e-3, "use_peft": True, "lora_dropout": 0.3}  # fmt: skip
    both = {
        tokens: in_a_process(tiny, forks, 0, **keys, tokens_per_micro_batch=tokens, output_dir=tmp_path / f"{tokens}")
        for tokens in (4096, 1456)
    }
    room = (both[4096]["grown"] + both[1456]["grown"]) // 2
    assert both[4096]["grown"] - both[1456]["grown"] > 50 * 2**20
    limited = in_a_process(tiny, forks, room, **keys, tokens_per_micro_batch=4096, output_dir=tmp_path / "limited")
    (note,) = [line for line in limited["notes"] if line.startswith("memory ran out")]
    assert f"note: {note}" in limited["stderr"]
    assert limited["stderr"].count("memory ran out") == 1
    assert "2,912 tokens; going on with 1,456," in note
    expected = weights(tmp_path / "1456" / "model")
    found = weights(tmp_path / "limited" / "model")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    untouched = weights(tmp_path / "4096" / "model")
    assert any(
        not torch.equal(untouched[name], expected[name]) for name in expected
    )  # other dropout: the test can fail


# A model that needs 2^60 bytes for too many tokens: the allocation fails truly, and at once --------------------------


@pytest.fixture
def hungry(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make Llama ask for an exbibyte where it is given more than so many tokens, in training, scoring or both."""
    from transformers import LlamaModel

    forward = LlamaModel.forward

    def limit(tokens: int, *, training: bool) -> None:
        def asking(self: Any, input_ids: torch.Tensor, **others: Any) -> Any:
            if input_ids.shape[1] > tokens and self.training == training:
                torch.empty(1 << 60, dtype=torch.uint8)
            return forward(self, input_ids, **others)

        monkeypatch.setattr(LlamaModel, "forward", asking)

    return limit


def halvings(run: Any) -> list[str]:
    return [note for note in run.manifest["notes"] if "memory ran out" in note]


@pytest.mark.parametrize("verb", ["sft", "dpo"])
def test_a_step_is_begun_again_with_half_the_tokens(
    verb: str, tiny: Any, train_run: Any, hungry: Any, weights: Any, losses: Any
) -> None:
    rows = tiny.uneven_rows(16) if verb == "sft" else tiny.uneven_pairs(16)
    keys = {"per_device_train_batch_size": 8, "num_train_epochs": 2, "learning_rate": 1e-3}
    smaller = train_run(verb, rows, "smaller", tokens_per_micro_batch=100, **keys)
    hungry(100, training=True)
    run = train_run(verb, rows, "run", **keys)
    assert losses(run) == pytest.approx(losses(smaller), rel=1e-5)
    expected = weights(smaller.path / "model")
    for name, tensor in weights(run.path / "model").items():
        assert torch.allclose(tensor, expected[name], rtol=0, atol=1e-5), name
    assert 1 <= len(halvings(run)) <= 3
    metrics = [line["tokens_seen"] for line in run.metrics() if "loss" in line]
    assert metrics == [line["tokens_seen"] for line in smaller.metrics() if "loss" in line]


def test_the_reference_and_the_evaluation_are_cut_smaller_too(
    tiny: Any, train_run: Any, hungry: Any, tmp_path: Path
) -> None:
    held_out = tiny.write_rows(tmp_path / "data" / "test.jsonl", tiny.uneven_pairs(24))
    tiny.write_rows(tmp_path / "data" / "train.jsonl", tiny.uneven_pairs(24))
    keys = {"dataset_test_split": "test", "eval_strategy": "epoch", "per_device_train_batch_size": 2}
    whole = train_run("dpo", held_out.parent, "whole", **keys)
    hungry(500, training=False)
    run = train_run("dpo", held_out.parent, "run", **keys)
    assert run.metrics()[-1]["eval_loss"] == pytest.approx(whole.metrics()[-1]["eval_loss"], rel=1e-5)
    told = halvings(run)
    assert any(note.startswith("reference: memory ran out") for note in told)
    assert any(note.startswith("memory ran out") for note in told)


def test_a_row_that_does_not_fit_alone_is_named(tiny: Any, train_run: Any, hungry: Any) -> None:
    rows = [tiny.conversation("Say apple", "apple"), tiny.conversation(" ".join(tiny.WORDS * 3), "moon")]
    hungry(40, training=True)
    with pytest.raises(ResourceError) as caught:
        train_run("sft", rows, per_device_train_batch_size=2)
    said = str(caught.value)
    assert caught.value.exit_code == 4
    assert "run.jsonl:2" in said
    tokens = int(said.split("), ")[1].split(" tokens")[0])
    assert 60 < tokens < 80  # 60 words, the template's marks and the answer
    for remedy in ("activation_checkpointing=true", "max_length", "use_peft=true", "smaller model"):
        assert remedy in said


def test_every_allocator_is_understood() -> None:
    said = (
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you …"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB, other allocations: 1 GB, max allowed: 18 GB)"),
        RuntimeError("CUDA error: out of memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError("Unable to allocate 8.00 EiB for an array"),
    )
    assert all(map(is_out_of_memory, said))
    assert not is_out_of_memory(RuntimeError("shape '[2, 3]' is invalid for input of size 5"))
    assert not is_out_of_memory(ValueError("out of memory"))


def a_row(name: str, tokens: int) -> Row:
    return Row(name, (Segment(np.arange(tokens, dtype=np.int32), np.ones(tokens, dtype=bool)),), f"rows.jsonl:{name}")


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="invalid shape"), room_for([a_row("1", 5)], 5):
        raise RuntimeError("invalid shape")


def test_nothing_of_a_failed_pass_is_kept() -> None:
    """The tensor of the frame that failed is gone when the next attempt begins."""
    import weakref

    rows = [a_row("1", 5), a_row("2", 5)]
    seen: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def attempt(tokens: int) -> int:
        alive.extend(each() is not None for each in seen)
        with room_for(rows, 10):
            activations = torch.zeros(100)
            seen.append(weakref.ref(activations))
            if tokens > 3:
                (activations, torch.empty(1 << 60, dtype=torch.uint8))
        return tokens

    budgets: list[int] = []
    assert fitting(attempt, 8, lambda tokens, said: budgets.append(tokens)) == 2
    assert budgets == [4, 2]
    assert alive == [False, False, False]


def test_processes_that_exchanged_something_do_not_begin_again() -> None:
    def attempt(tokens: int) -> None:
        with room_for([a_row("1", 5), a_row("2", 5)], 10, can_retry=False):
            torch.empty(1 << 60, dtype=torch.uint8)

    with pytest.raises(NoRoomError, match="tokens_per_micro_batch=5"):
        fitting(attempt, 10, lambda tokens, said: None)


def test_memory_that_runs_out_elsewhere_is_told_plainly(
    tiny: Any, train_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(self: Any, closure: Any = None) -> None:
        torch.empty(1 << 60, dtype=torch.uint8)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(ResourceError, match="optimizer's state") as caught:
        train_run("sft", tiny.uneven_rows(4), max_steps=1)
    assert "use_peft=true" in str(caught.value)


# Activation checkpointing --------------------------------------------------------------------------------------------


def gradients(recipe: Any, pairs: bool) -> dict[str, torch.Tensor]:
    """Return the gradient of every trained weight for the recipe's first rows, as training assembles the model."""
    from poise.batch.batch import make_batch
    from poise.train.assemble import assemble
    from poise.train.prepare import prepare

    prepared = prepare(recipe)
    scorer = assemble(recipe, prepared.tokenizer, prepared.rendered).scorer.train()
    assert scorer.way == "shared"
    for name, parameter in scorer.named_parameters():
        if "lora_B" in name:  # zero as it is made, which would make the gradient of lora_A zero
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    logps = scorer(make_batch(prepared.rendered.train[:6]))
    (torch.sigmoid(logps.sum()).sum() if pairs else logps.values.sum()).backward()
    found = {name: each.grad for name, each in scorer.named_parameters() if each.requires_grad}
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in found.values())
    return found


WAYS = {
    "as it is": {"activation_checkpointing": True},
    "by its old name": {"gradient_checkpointing": True},
    "reentrant": {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
    "with another option": {
        "activation_checkpointing": True,
        "activation_checkpointing_kwargs": {"preserve_rng_state": False},
    },
}


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*is deprecated:FutureWarning")  # peft 0.21's old names
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tuning", ["full", "LoRA"])
@pytest.mark.parametrize("verb", ["sft", "dpo"])
def test_recomputing_activations_changes_no_gradient(
    verb: str, tuning: str, way: str, tiny: Any, base: Path, tmp_path: Path
) -> None:
    from poise.recipe import load_recipe

    rows = tiny.uneven_rows(8) if verb == "sft" else tiny.uneven_pairs(8)
    keys = {"model_name_or_path": base, "dataset_name": tiny.write_rows(tmp_path / "rows.jsonl", rows),
            "output_dir": tmp_path / "run", "use_peft": tuning == "LoRA", "lora_dropout": 0.0}  # fmt: skip
    plain = gradients(load_recipe(verb, None, tiny.settings(**keys)), verb == "dpo")
    again = gradients(load_recipe(verb, None, tiny.settings(**keys, **WAYS[way])), verb == "dpo")
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        assert torch.allclose(again[name], gradient, rtol=1e-6, atol=1e-6 * float(gradient.abs().max())), name


@pytest.mark.parametrize("tuning", ["full", "LoRA"])
def test_recomputing_activations_takes_less_memory(
    tuning: str, tiny: Any, forks: Any, wide: Path, tmp_path: Path
) -> None:
    """Three layers of 64 wide with 1,024 in the middle: kept, each token and layer holds about 20 KiB."""
    data = tiny.write_rows(tmp_path / "rows.jsonl", [tiny.conversation(" ".join(tiny.WORDS * 4), "moon")] * 64)
    keys = {"model_name_or_path": wide, "dataset_name": data, "per_device_train_batch_size": 64,
            "tokens_per_micro_batch": 8192, "max_steps": 1, "use_peft": tuning == "LoRA"}  # fmt: skip
    kept, recomputed = (
        in_a_process(tiny, forks, 0, **keys, activation_checkpointing=on, output_dir=tmp_path / f"{on}")["peak"]
        for on in (False, True)
    )
    assert kept - recomputed > 50 * 2**20
