"""4 and 8 bits on the CPU: the same function as LoRA over the dequantised weights, before and after an evaluation."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poise.batch.batch import make_batch
from poise.batch.row import Row, Segment
from poise.batch.score import Scorer
from poise.errors import ModelError
from poise.recipe_sections import ModelSection
from poise.train.adapters import attach_adapter
from poise.train.model import Hardware, load_model
from poise.train.optimizer import choose_optimizer

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CPU = Hardware(torch.device("cpu"), torch.float32, autocast=False)
LORA = {"use_peft": True, "lora_r": 4, "lora_dropout": 0.0, "lora_target_modules": "all-linear"}
FOUR = {"load_in_4bit": True, "use_bnb_nested_quant": True}


def segment(ids: list[int], parent: int = -1, trained: bool = True) -> Segment:
    return Segment(np.array(ids, dtype=np.int32), np.full(len(ids), trained), parent)


ROWS = [
    Row("pair", (segment([3, 4, 5, 6], trained=False), segment([7, 8, 9, 2], 0), segment([10, 3, 2], 0))),
    Row("conversation", (segment([3, 9, 4, 10, 2]),)),
]


def section_of(base: Path, **keys: Any) -> ModelSection:
    return ModelSection(model_name_or_path=str(base), **{**LORA, **keys})


def quantized(base: Path, **keys: Any) -> Any:
    """A quantized base with an adapter whose B is drawn, for an untrained one adds nothing."""
    section = section_of(base, **keys)
    torch.manual_seed(1)
    model = attach_adapter(load_model(section, CPU).model, section, [])
    draw(model)
    return model


def draw(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)


def dequantised(model: Any, base: Path, **keys: Any) -> Any:
    """LoRA over a float32 copy of what the quantized layers stand for, with the same adapter weights."""
    from peft.utils.integrations import dequantize_module_weight

    section = section_of(base, **keys)
    whole = load_model(section, CPU).model
    layers = dict(model.get_base_model().named_modules())
    with torch.no_grad():
        for name, module in whole.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                module.weight.copy_(dequantize_module_weight(layers[name].base_layer))
    adapted = attach_adapter(whole, section, [])
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])
    return adapted


def scores(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities with shared prefixes, and the gradient of every trained parameter."""
    scorer = Scorer(model).train()
    batch = make_batch(ROWS)
    values = scorer(batch).values
    model.zero_grad()
    (values * torch.linspace(-1, 2, batch.trained_tokens)).sum().backward()
    return values.detach(), {name: each.grad for name, each in model.named_parameters() if each.requires_grad}


def agree(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        assert gradient.any(), name
        assert (ours[1][name] - gradient).norm() <= 1e-5 * gradient.norm(), name


WAYS = {
    "nf4": {"load_in_4bit": True},
    "nf4, nested": FOUR,
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "nf4 stored as bfloat16": {**FOUR, "bnb_4bit_quant_storage": "bfloat16"},
    "nf4 under DoRA": {**FOUR, "use_dora": True},
    "int8": {"load_in_8bit": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_values_and_gradients_are_those_of_the_dequantised_weights_also_after_an_evaluation(
    way: str, base: Path
) -> None:
    """Bitsandbytes would repack 4-bit weights in the evaluation, and give no gradient from then on."""
    model = quantized(base, **WAYS[way])
    exact = scores(dequantised(model, base, use_dora=WAYS[way].get("use_dora", False)))
    agree(scores(model), exact)
    with torch.no_grad():
        in_evaluation = Scorer(model).eval()(make_batch(ROWS)).values
    torch.testing.assert_close(in_evaluation, exact[0], rtol=0, atol=1e-5)
    agree(scores(model), exact)


def test_sharing_prefixes_changes_nothing_over_4_bits(base: Path) -> None:
    scorer = Scorer(quantized(base, **FOUR)).eval()
    with torch.no_grad():
        shared, alone = scorer(make_batch(ROWS)).values, scorer.one_by_one(make_batch(ROWS)).values
    torch.testing.assert_close(shared, alone, rtol=0, atol=1e-5)


def test_quantized_weights_are_near_the_whole_ones(base: Path) -> None:
    """NF4 keeps normal weights within about 9 % (measured here: 0.09), int8 by rows within 1 %."""
    from peft.utils.integrations import dequantize_module_weight

    whole = load_model(section_of(base), CPU).model.model.layers[0].mlp.down_proj.weight
    for keys, bound in ((FOUR, 0.12), ({"load_in_8bit": True}, 0.01)):
        layer = load_model(section_of(base, **keys), CPU).model.model.layers[0].mlp.down_proj
        error = (dequantize_module_weight(layer) - whole).norm() / whole.norm()
        assert 1e-4 < error < bound


def test_what_is_not_quantized_stays_float32(base: Path) -> None:
    model = load_model(section_of(base, **FOUR, torch_dtype="bfloat16"), Hardware(CPU.device, torch.bfloat16, False))
    kept = {name: each.dtype for name, each in model.model.named_parameters() if each.is_floating_point()}
    assert set(kept.values()) == {torch.float32}
    assert {"model.embed_tokens.weight", "model.norm.weight"} <= kept.keys()


def test_the_compute_type_acts_and_belongs_to_the_hash(base: Path) -> None:
    exact, rounded = (
        load_model(section_of(base, **FOUR, bnb_4bit_compute_dtype=name), CPU) for name in ("float32", "bfloat16")
    )
    assert exact.sha256 != rounded.sha256
    assert exact.base_sha256 == rounded.base_sha256 == load_model(section_of(base), CPU).base_sha256
    with torch.no_grad():
        values = [Scorer(loaded.model).eval()(make_batch(ROWS)).values for loaded in (exact, rounded)]
    assert 1e-5 < (values[0] - values[1]).abs().max() < 0.1


def test_nested_quantization_and_storage_act(base: Path) -> None:
    def layer(**keys: Any) -> Any:
        return load_model(section_of(base, load_in_4bit=True, **keys), CPU).model.model.layers[0].mlp.down_proj.weight

    assert not layer().quant_state.nested
    assert layer(use_bnb_nested_quant=True).quant_state.nested
    assert layer().dtype == torch.uint8
    assert layer(bnb_4bit_quant_storage="bfloat16").dtype == torch.bfloat16


def test_rows_that_end_within_a_block_are_refused(tiny: Any, tmp_path: Path) -> None:
    """Bitsandbytes 0.50 dequantises 96 columns wrongly on the CPU: 0.23 of the norm instead of 0.09."""
    odd = tiny.make_base(tmp_path / "odd", intermediate_size=96)
    with pytest.raises(ModelError, match=r"down_proj has 96 input features \(2 such layers\)"):
        load_model(section_of(odd, **FOUR), CPU)


@pytest.mark.parametrize(
    ("keys", "device", "message"),
    [
        ({"load_in_8bit": True, "use_dora": True}, "cpu", "use_dora with load_in_8bit does not work on the CPU"),
        (FOUR, "mps", "load_in_4bit needs CUDA or the CPU, this run has mps"),
    ],
)
def test_what_cannot_be_trained_is_refused(keys: dict[str, Any], device: str, message: str, base: Path) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(section_of(base, **keys), Hardware(torch.device(device), torch.float32, False))


def test_a_missing_package_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.train.quantize.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'poise\[quantize\]'"):
        load_model(section_of(base, **FOUR), CPU)


def test_a_quantized_module_is_not_trained_whole(base: Path) -> None:
    section = section_of(base, **FOUR, lora_modules_to_save=["down_proj"])
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.down_proj is quantized here"):
        attach_adapter(load_model(section, CPU).model, section, [])


# Whole runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [FOUR, {"load_in_8bit": True}], ids=["4 bits", "8 bits"])
def test_preferences_train_over_quantized_weights(bits: dict[str, Any], tiny: Any, train_run: Any) -> None:
    """The whole path: reference, evaluations in between, checkpoints, saved adapter; the loss starts at ln 2."""
    run = train_run(
        "dpo", tiny.uneven_pairs(16), use_peft=True, lora_target_modules="all-linear", **bits, num_train_epochs=8,
        learning_rate=1e-2, eval_strategy="epoch", dataset_test_split="train[:4]", optim="paged_adamw_32bit",
        save_strategy="epoch",
    )  # fmt: skip
    losses = [line["loss"] for line in run.metrics() if "loss" in line]
    assert losses[0] == pytest.approx(np.log(2), abs=1e-6)
    assert losses[-1] < 0.55
    assert "optim: paged_adamw_32bit needs CUDA; adamw_torch_fused is used instead" in run.manifest["notes"]


def test_the_handbooks_keys_train_as_they_are(tiny: Any, train_run: Any) -> None:
    """Its QLoRA recipes: bfloat16 throughout, a paged optimizer, and preferences at rank 128 over an adapter of 16."""
    shared = {
        "torch_dtype": "bfloat16", "bf16": True, "load_in_4bit": True, "bnb_4bit_quant_storage": "bfloat16",
        "use_peft": True, "lora_dropout": 0.05, "gradient_checkpointing": True, "max_steps": 2,
        "lora_target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    }  # fmt: skip
    taught = train_run("sft", tiny.uneven_rows(8), "sft", **shared, lora_r=16, lora_alpha=16)
    run = train_run(
        "dpo", tiny.uneven_pairs(8), "dpo", **shared, lora_r=128, lora_alpha=128, optim="paged_adamw_32bit",
        model_name_or_path=taught.path / "model",
    )  # fmt: skip
    losses = [line["loss"] for line in run.metrics() if "loss" in line]
    assert losses[0] == pytest.approx(np.log(2), abs=0.02)
    (note,) = [each for each in run.manifest["notes"] if "is merged into its base" in each]
    assert "lora_r 16, the recipe says 128" in note
    assert run.manifest["model"]["prefix_sharing"] is True


def test_rounded_products_are_no_reason_to_give_sharing_up(tiny: Any, train_run: Any) -> None:
    run = train_run(
        "dpo", tiny.uneven_pairs(8), use_peft=True, **FOUR, bnb_4bit_compute_dtype="bfloat16", max_steps=1
    )  # fmt: skip
    assert run.manifest["model"]["prefix_sharing"] is True


def test_a_stopped_run_over_4_bits_resumes_to_the_same_weights(
    tiny: Any, train_run: Any, weights: Any, tmp_path: Path
) -> None:
    steps = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 3}
    steps["save_total_limit"] = 5
    keys = {"use_peft": True, "lora_target_modules": "all-linear", **FOUR, **steps, "learning_rate": 1e-2}
    whole = train_run("dpo", tiny.uneven_pairs(16), **keys)
    before = weights(whole.path / "model")
    for step in (6, 8):
        (whole.path / f"checkpoints/checkpoint-{step}").rename(tmp_path / f"{step}")
    again = train_run("dpo", tiny.uneven_pairs(16), **keys, resume=True)
    after = weights(again.path / "model")
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_an_adapter_trained_over_4_bits_fits_the_whole_base(tiny: Any, train_run: Any) -> None:
    """The hash it keeps is that of the weights on disk, however they were loaded."""
    taught = train_run("sft", tiny.uneven_rows(8), "sft", use_peft=True, **FOUR, max_steps=2)
    train_run("dpo", tiny.uneven_pairs(8), "dpo", use_peft=True, max_steps=1, model_name_or_path=taught.path / "model")


# Optimizers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "device", "runs"),
    [
        ("adamw_torch", "cpu", "adamw_torch"),
        ("paged_adamw_32bit", "cpu", "adamw_torch_fused"),
        ("paged_adamw_8bit", "cpu", "adamw_8bit"),
        ("adamw_bnb_8bit", "cpu", "adamw_bnb_8bit"),
        ("paged_lion_8bit", "cpu", "lion_8bit"),
        ("paged_ademamix_32bit", "cpu", "ademamix"),
        ("paged_adamw_8bit", "mps", "adamw_torch_fused"),
        ("paged_adamw_8bit", "cuda", "paged_adamw_8bit"),
    ],
)
def test_an_optimizer_becomes_the_nearest_that_runs_and_says_so(asked: str, device: str, runs: str) -> None:
    chosen = choose_optimizer(asked, torch.device(device))
    assert chosen.name == runs
    assert (chosen.note is None) == (asked == runs)


def test_without_bitsandbytes_adamw_is_torchs_and_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.train.optimizer.find_spec", lambda name: None)
    chosen = choose_optimizer("adamw_8bit", torch.device("cuda"))
    assert chosen.name == "adamw_torch_fused"
    assert chosen.note == "optim: adamw_8bit needs bitsandbytes; adamw_torch_fused is used instead"
    with pytest.raises(ModelError, match="optim: lion_8bit needs bitsandbytes on CUDA or the CPU, which is not"):
        choose_optimizer("lion_8bit", torch.device("cpu"))


def test_paging_changes_no_number(tiny: Any, train_run: Any, weights: Any) -> None:
    one, two = (
        train_run("sft", tiny.uneven_rows(8), name, num_train_epochs=2, learning_rate=1e-3, optim=name)
        for name in ("paged_adamw_32bit", "adamw_torch_fused")
    )
    ours, theirs = weights(one.path / "model"), weights(two.path / "model")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", ["paged_adamw_8bit", "lion_8bit", "paged_ademamix_8bit", "rmsprop_bnb_8bit"])
def test_optimizers_of_8_bits_learn_on_the_cpu(name: str, tiny: Any, train_run: Any, losses: Any) -> None:
    run = train_run("sft", tiny.uneven_rows(16), num_train_epochs=10, learning_rate=3e-3, optim=name)
    assert losses(run)[-1] < losses(run)[0] - 0.5


# The import ----------------------------------------------------------------------------------------------------------


def test_importing_bitsandbytes_fetches_nothing_where_kernels_is_installed(tmp_path: Path) -> None:
    """It asks the package `kernels` for code from the Hub while it is imported; this one fails the test if asked."""
    (tmp_path / "kernels.py").write_text("raise SystemExit('kernels was imported')\n")
    (tmp_path / "kernels-1.dist-info").mkdir()
    (tmp_path / "kernels-1.dist-info" / "METADATA").write_text("Name: kernels\nVersion: 1\n")
    code = "from poise.train.quantize import import_bitsandbytes; import_bitsandbytes(); import bitsandbytes"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
