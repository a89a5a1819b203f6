"""Adapters: trained, saved, read back equal; training goes on from one in three ways, each with the right reference."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poise.batch.batch import make_batch
from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.errors import ModelError, PoiseError
from poise.recipe import load_recipe
from poise.run import Run
from poise.train.merged import merge_adapter
from poise.train.prepare import prepare

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LORA = {"use_peft": True, "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "lora_target_modules": "all-linear"}
TAUGHT = {**LORA, "max_steps": 20, "learning_rate": 1e-2}
PREFERRED = {"max_steps": 3, "learning_rate": 1e-2, "logging_steps": 1}
NEW_TOKENS = ("<|endoftext|>",)
"""Special tokens of a base that knows no chat: the template's two are new to it."""


def first(run: Run) -> dict[str, Any]:
    return run.metrics()[0]


def rows_of(tiny: Any, model: Path, data: Path, verb: str = "dpo") -> list[Row]:
    values = {"model_name_or_path": model, "dataset_name": data, "output_dir": data.parent / "unused"}
    return prepare(load_recipe(verb, None, tiny.settings(**values))).rendered.train


def plain_peft(folder: Path, **options: Any) -> Any:
    """Open an adapter as anybody would, without poise."""
    from peft import AutoPeftModelForCausalLM

    return AutoPeftModelForCausalLM.from_pretrained(folder, **options).eval()


def logps(model: Any, rows: list[Row], *, shared: bool = False) -> torch.Tensor:
    with torch.no_grad():
        scorer = Scorer(model).eval()
        return torch.cat([(scorer if shared else scorer.one_by_one)(make_batch([row])).values for row in rows])


def stored(store: Path, rows: list[Row]) -> torch.Tensor:
    from poise.train.store import Store

    (folder,) = (store / "reference").iterdir()
    by_row = Store(folder).read([row.digest() for row in rows])
    return torch.from_numpy(np.concatenate([by_row[row.digest()] for row in rows]))


def close(ours: torch.Tensor, theirs: torch.Tensor, within: float = 2e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=within)


# One adapter ---------------------------------------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "LoRA on the head too": {"lora_target_modules": ["q_proj", "lm_head"]},
    "embeddings and head whole": {"lora_modules_to_save": ["embed_tokens", "lm_head"]},
    "the head whole": {"lora_modules_to_save": ["lm_head"]},
    "a norm whole": {"lora_modules_to_save": ["norm"]},
}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("error")
def test_an_adapter_is_trained_saved_and_read_back(
    kind: str, tied: bool, tiny: Any, train_run: Any, tmp_path: Path, weights: Any
) -> None:
    """Against the model as poise held it at the end: its last checkpoint's scores, opened by plain peft."""
    import warnings

    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*tied_target_modules", category=UserWarning)
    base = tiny.make_base(tmp_path / "base", tie_word_embeddings=tied)
    held: list[Any] = []
    run = trained(train_run, held, tiny.uneven_rows(8), model_name_or_path=base, **TAUGHT | KINDS[kind])
    rows = rows_of(tiny, base, tmp_path / "run.jsonl", "sft")
    again = plain_peft(run.path / "model")
    close(logps(again, rows), held[0](rows))
    assert (logps(again, rows) - logps(plain_base(base), rows)).abs().max() > 0.1
    if tied and "lora_modules_to_save" in KINDS[kind]:
        inputs, outputs = again.get_input_embeddings().weight, again.get_output_embeddings().weight
        assert torch.equal(inputs, outputs)
    merged = merge_adapter(plain_peft(run.path / "model"))
    close(logps(merged, rows), held[0](rows))
    if tied:
        assert merged.get_input_embeddings().weight is merged.get_output_embeddings().weight


def plain_base(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def trained(train_run: Any, held: list[Any], *args: Any, **keys: Any) -> Run:
    """Train, and keep a function that scores rows under the model as it stands in memory at the end."""
    import poise.train.loop as stage

    save, seen = stage.save_model, held

    def save_and_keep(model: Any, *rest: Any) -> None:
        save(model, *rest)
        seen[:] = [lambda rows: logps(model.eval(), rows)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "save_model", save_and_keep)
        return train_run("sft" if "verb" not in keys else keys.pop("verb"), *args, **keys)


@pytest.mark.parametrize("kind", KINDS)
def test_sharing_prefixes_changes_no_value_and_no_gradient(kind: str, base: Path) -> None:
    from poise.recipe_sections import ModelSection
    from poise.train.adapters import attach_adapter
    from poise.train.model import Hardware, load_model

    section = ModelSection(model_name_or_path=str(base), **LORA | KINDS[kind])
    torch.manual_seed(3)
    model = attach_adapter(load_model(section, Hardware(torch.device("cpu"), torch.float32, False)).model, section, [])
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    pair = [row for row in ROWS if len(row.segments) == 3]
    batch = make_batch([*pair, *ROWS])
    found: list[Any] = []
    for scorer in (Scorer(model), Scorer(model).one_by_one):
        values = scorer(batch).values
        model.zero_grad()
        (values * torch.linspace(-1, 2, batch.trained_tokens)).sum().backward()
        found.append((values.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    close(found[0][0], found[1][0], 1e-5)
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[1][1].items():
        assert (found[0][1][name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def _segment(ids: list[int], parent: int = -1, trained: bool = True) -> Any:
    from poise.batch.row import Segment

    return Segment(np.array(ids, dtype=np.int32), np.full(len(ids), trained), parent)


ROWS = [
    Row("pair", (_segment([3, 4, 5, 6], trained=False), _segment([7, 8, 9, 2], 0), _segment([10, 3, 2], 0))),
    Row("conversation", (_segment([3, 9, 4, 10, 2]),)),
]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_rows_of_new_tokens_are_trained_saved_and_read_back(
    tied: bool, tiny: Any, train_run: Any, tmp_path: Path, weights: Any
) -> None:
    base = tiny.make_base(
        tmp_path / "bare", eos="<|endoftext|>", pad=None, specials=NEW_TOKENS, tie_word_embeddings=tied
    )
    held: list[Any] = []
    run = trained(train_run, held, tiny.uneven_rows(8), model_name_or_path=base, **TAUGHT)
    rows = rows_of(tiny, run.path / "model", tmp_path / "run.jsonl", "sft")
    again = plain_peft(run.path / "model")
    close(logps(again, rows), held[0](rows))
    saved = weights(run.path / "model")
    assert not [key for key in saved if key.endswith("embed_tokens.weight")], "the base is not saved with it"
    known = plain_base(base).get_input_embeddings().weight.shape[0]
    deltas = [saved[key] for key in saved if "token_adapter" in key]
    assert len(deltas) == (1 if tied else 2)
    assert all(len(delta) == len(_tokenizer(run.path / "model")) - known > 0 for delta in deltas)
    if tied:
        merged = merge_adapter(plain_peft(run.path / "model"))
        assert torch.equal(merged.get_input_embeddings().weight[known:], deltas[0])
        assert torch.equal(merged.get_output_embeddings().weight[known:], deltas[0])
    for way in ("same", "merge"):  # and poise goes on from it
        again = train_run(
            "dpo", tiny.uneven_pairs(8), way, **PREFERRED, use_peft=True, adapter_continuation=way,
            model_name_or_path=run.path / "model",
        )  # fmt: skip
        assert first(again)["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_new_tokens_beside_whole_embeddings_are_trained_with_them(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    base = tiny.make_base(tmp_path / "bare", eos="<|endoftext|>", pad=None, specials=NEW_TOKENS)
    held: list[Any] = []
    keys = TAUGHT | {"lora_modules_to_save": ["embed_tokens"]}
    run = trained(train_run, held, tiny.uneven_rows(8), model_name_or_path=base, **keys)
    rows = rows_of(tiny, run.path / "model", tmp_path / "run.jsonl", "sft")
    close(logps(plain_peft(run.path / "model"), rows), held[0](rows))


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_experts_that_are_parameters_are_adapted(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    base = tiny.make_tokenizer(tmp_path / "experts", eos="<|endoftext|>", pad="<|pad|>")
    torch.manual_seed(0)
    MixtralForCausalLM(
        MixtralConfig(
            vocab_size=len(_tokenizer(base)), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
        )
    ).save_pretrained(base)  # fmt: skip
    held: list[Any] = []
    experts = {"lora_target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
    keys = {"use_peft": True, "lora_r": 4, "max_steps": 8, "learning_rate": 1e-2, **experts}
    run = trained(train_run, held, tiny.uneven_rows(8), model_name_or_path=base, **keys)
    assert [note for note in run.manifest["notes"] if note.startswith("lora_dropout is 0")]
    rows = rows_of(tiny, base, tmp_path / "run.jsonl", "sft")
    again = plain_peft(run.path / "model")
    close(logps(again, rows), held[0](rows))
    assert (logps(again, rows) - logps(plain_base(base), rows)).abs().max() > 0.1
    with pytest.raises(ModelError, match=r"does not fit this model: .*lora_dropout != 0"):
        train_run("sft", tiny.uneven_rows(8), "wet", **keys, model_name_or_path=base, lora_dropout=0.1)


def test_an_adapter_that_fits_nothing_is_refused_with_the_keys_to_look_at(tiny: Any, train_run: Any) -> None:
    with pytest.raises(
        PoiseError, match=r"E601: lora_target_modules: c_attn is no linear layer(?s:.*)its layers are down_proj"
    ):
        train_run("sft", tiny.uneven_rows(4), use_peft=True, lora_target_modules=["c_attn"])


# Going on from an adapter --------------------------------------------------------------------------------------------

WAYS: dict[str, dict[str, Any]] = {
    "same": {},
    "merge": {"lora_r": 8, "lora_alpha": 4, "lora_target_modules": ["q_proj", "up_proj"]},
    "stack": {"lora_r": 6, "lora_alpha": 4, "lora_target_modules": ["q_proj", "up_proj"], "use_rslora": True},
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, tiny: Any, base: Path) -> Path:
    """An adapter that was taught to chat."""
    from poise.workflow import train_and_report

    folder = tmp_path_factory.mktemp("taught")
    data = tiny.write_rows(folder / "rows.jsonl", tiny.uneven_rows(16))
    values = {"model_name_or_path": base, "dataset_name": data, "output_dir": folder / "run", **TAUGHT}
    recipe = load_recipe("sft", None, tiny.settings(**values))
    train_and_report(recipe, resume=False, overwrite=False)
    return folder / "run" / "model"


@pytest.mark.parametrize("way", WAYS)
def test_the_reference_is_the_taught_policy_and_the_result_opens_as_one_adapter(
    way: str, tiny: Any, train_run: Any, taught: Path, tmp_path: Path
) -> None:
    held: list[Any] = []
    keys = {**PREFERRED, "use_peft": True, **WAYS[way], "adapter_continuation": way, "model_name_or_path": taught}
    keys["reference_cache"] = tmp_path / "store"
    run = trained(train_run, held, tiny.uneven_pairs(8), verb="dpo", **keys)
    rows = rows_of(tiny, taught, tmp_path / "run.jsonl")
    policy = plain_peft(taught)
    close(stored(tmp_path / "store", rows), logps(policy, rows))
    assert first(run)["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first(run)["rewards/margins"] == pytest.approx(0, abs=1e-6)
    result = plain_peft(run.path / "model")
    close(logps(result, rows), held[0](rows))
    assert (logps(result, rows) - logps(policy, rows)).abs().max() > 0.01, "the preference step moved it"
    config = json.loads((run.path / "model" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"] == str(run.path / "base")) == (way == "merge")
    assert config["r"] == {"same": 4, "merge": 8, "stack": 10}[way]
    again = train_run("dpo", tiny.uneven_pairs(8), "again", **PREFERRED, use_peft=True,
                      model_name_or_path=run.path / "model")  # fmt: skip
    assert first(again)["loss"] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.filterwarnings("ignore:Merge lora module to 4-bit linear:UserWarning")
@pytest.mark.parametrize("way", WAYS)
def test_over_4_bits_too(way: str, tiny: Any, train_run: Any, taught: Path, tmp_path: Path) -> None:
    """Merged weights are quantized anew, as transformers does it with the model that plain peft merges."""
    pytest.importorskip("bitsandbytes")
    four = {"load_in_4bit": True, "use_bnb_nested_quant": True}
    keys = {**PREFERRED, "use_peft": True, **WAYS[way], "adapter_continuation": way, "model_name_or_path": taught}
    held: list[Any] = []
    run = trained(train_run, held, tiny.uneven_pairs(8), verb="dpo", **keys, **four, reference_cache=tmp_path / "store")
    rows = rows_of(tiny, taught, tmp_path / "run.jsonl")
    if way == "merge":
        plain_peft(taught).merge_and_unload().save_pretrained(tmp_path / "merged")
        policy = four_bits(tmp_path / "merged")
    else:
        policy = four_bits(taught)
    close(stored(tmp_path / "store", rows), logps(policy, rows))
    assert first(run)["loss"] == pytest.approx(math.log(2), abs=1e-6)
    result = four_bits(run.path / "model")
    close(logps(result, rows), held[0](rows))
    assert (logps(result, rows) - logps(policy, rows)).abs().max() > 0.01


def four_bits(folder: Path) -> Any:
    """Load a model, or an adapter on its base, over nf4 weights, without poise; held to the exact computation."""
    from bitsandbytes.nn import Linear4bit
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    kind = AutoPeftModelForCausalLM if (folder / "adapter_config.json").exists() else AutoModelForCausalLM
    model = kind.from_pretrained(folder, quantization_config=config, device_map={"": "cpu"}, dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model.eval()


@pytest.mark.parametrize("way", WAYS)
def test_a_continuation_resumes_to_the_same_weights(
    way: str, tiny: Any, train_run: Any, taught: Path, tmp_path: Path, weights: Any
) -> None:
    steps = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 3}
    keys = {**steps, "save_total_limit": 5, "learning_rate": 1e-2, "use_peft": True, **WAYS[way],
            "adapter_continuation": way, "model_name_or_path": taught}  # fmt: skip
    whole = train_run("dpo", tiny.uneven_pairs(16), **keys)
    before = weights(whole.path / "model")
    merged = (whole.path / "base" / "model.safetensors").stat().st_mtime_ns if way == "merge" else None
    for step in (6, 8):
        (whole.path / f"checkpoints/checkpoint-{step}").rename(tmp_path / f"{step}")
    after = weights(train_run("dpo", tiny.uneven_pairs(16), **keys, resume=True).path / "model")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    if merged is not None:
        assert (whole.path / "base" / "model.safetensors").stat().st_mtime_ns == merged, "it was merged again"


def test_a_checkpoint_of_stacked_adapters_is_one_adapter_too(
    tiny: Any, train_run: Any, taught: Path, weights: Any
) -> None:
    keys = {**PREFERRED, "use_peft": True, **WAYS["stack"], "adapter_continuation": "stack"}
    run = train_run("dpo", tiny.uneven_pairs(8), **keys, model_name_or_path=taught, save_strategy="epoch")
    checkpoint = run.path / "checkpoints" / "checkpoint-3"
    ours, theirs = weights(run.path / "model"), weights(checkpoint)
    adapter = {key for key in ours if ".lora_" in key}
    assert adapter
    assert all(torch.equal(ours[key], theirs[key]) for key in adapter)


ONE_END: dict[str, dict[str, Any]] = {
    "LoRA on the head": {"target_modules": ["q_proj", "lm_head"]},
    "the head whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
}


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.parametrize("tuning", [{"use_peft": True, "adapter_continuation": "merge"}, {}], ids=["LoRA", "full"])
@pytest.mark.parametrize("kind", ONE_END)
def test_a_foreign_adapter_on_one_end_of_tied_embeddings_is_merged_into_that_end(
    kind: str, tuning: dict[str, Any], tiny: Any, train_run: Any, base: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(plain_base(base), LoraConfig(task_type="CAUSAL_LM", r=4, **ONE_END[kind]))
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path / "foreign")
    _tokenizer(base).save_pretrained(tmp_path / "foreign")
    held: list[Any] = []
    keys = {**PREFERRED, **tuning, "model_name_or_path": tmp_path / "foreign", "reference_cache": tmp_path / "store"}
    run = trained(train_run, held, tiny.uneven_pairs(8), verb="dpo", **keys)
    rows = rows_of(tiny, base, tmp_path / "run.jsonl")
    close(stored(tmp_path / "store", rows), logps(plain_peft(tmp_path / "foreign"), rows))
    result = plain_peft(run.path / "model") if tuning else plain_base(run.path / "model")
    close(logps(result, rows), held[0](rows))


def test_auto_takes_the_same_adapter_where_nothing_else_is_said(tiny: Any, train_run: Any, taught: Path) -> None:
    for keys in ({}, {"lora_r": 4, "lora_alpha": 8, "lora_target_modules": "all-linear", "lora_dropout": 0.1}):
        run = train_run("dpo", tiny.uneven_pairs(4), f"{len(keys)}", max_steps=1, use_peft=True, **keys,
                        model_name_or_path=taught)  # fmt: skip
        assert [
            note for note in run.manifest["notes"] if note.startswith(f"training goes on with the adapter {taught}")
        ]
        assert not (run.path / "base").exists()


@pytest.mark.parametrize(
    "keys",
    [
        {"lora_r": 128},
        {"lora_alpha": 9},
        {"lora_target_modules": ["q_proj"]},
        {"lora_modules_to_save": ["norm"]},
        {"use_dora": True},
        {"use_rslora": True},
    ],
)
def test_auto_merges_where_the_recipe_says_another_shape(
    keys: dict[str, Any], tiny: Any, train_run: Any, taught: Path
) -> None:
    run = train_run("dpo", tiny.uneven_pairs(4), max_steps=1, use_peft=True, **keys, model_name_or_path=taught)
    (key,) = keys
    (note,) = [each for each in run.manifest["notes"] if "is merged into its base" in each]
    assert key in note
    assert str(run.path / "base") in note
    assert first(run)["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_same_refuses_another_shape_and_says_all_of_it(tiny: Any, train_run: Any, taught: Path) -> None:
    keys = {"lora_r": 8, "lora_alpha": 16, "adapter_continuation": "same"}
    with pytest.raises(ModelError, match=r"lora_r 4, the recipe says 8(?s:.*)adapter_continuation=merge") as caught:
        train_run("dpo", tiny.uneven_pairs(4), use_peft=True, **keys, model_name_or_path=taught)
    assert "lora_alpha 8, the recipe says 16" in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "what"),
    [({"use_dora": True}, "use_dora"), ({"lora_modules_to_save": ["norm"]}, "modules_to_save")],
)
def test_what_cannot_be_stacked_exactly_is_refused(
    keys: dict[str, Any], what: str, tiny: Any, train_run: Any, taught: Path
) -> None:
    with pytest.raises(ModelError, match=f"stack does not fit, the new adapter has {what}"):
        train_run("dpo", tiny.uneven_pairs(4), use_peft=True, adapter_continuation="stack", **keys,
                  model_name_or_path=taught)  # fmt: skip


def test_an_adapter_of_directions_is_not_stacked_upon(tiny: Any, train_run: Any) -> None:
    keys = TAUGHT | {"max_steps": 1, "use_dora": True}
    taught = train_run("sft", tiny.uneven_rows(4), "sft", **keys).path / "model"
    with pytest.raises(ModelError, match=r"the adapter beneath has use_dora(?s:.*)adapter_continuation=merge"):
        train_run("dpo", tiny.uneven_pairs(4), use_peft=True, adapter_continuation="stack", model_name_or_path=taught)


def test_all_linear_layers_are_named_for_the_upper_adapter(tiny: Any, train_run: Any, taught: Path) -> None:
    run = train_run("dpo", tiny.uneven_pairs(4), max_steps=1, adapter_continuation="stack", **LORA,
                    model_name_or_path=taught)  # fmt: skip
    config = json.loads((run.path / "model" / "adapter_config.json").read_text())
    assert len(config["target_modules"]) == 14
    assert "model.layers.0.mlp.down_proj" in config["target_modules"]


def test_new_tokens_make_auto_merge_and_stop_stack(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    base = tiny.make_base(tmp_path / "bare", eos="<|endoftext|>", pad=None, specials=NEW_TOKENS)
    plain = {**TAUGHT, "chat_template": "zephyr"}
    taught = train_run("sft", tiny.uneven_rows(8), "sft", model_name_or_path=base, **plain).path / "model"
    keys = {"max_steps": 1, "use_peft": True, "model_name_or_path": taught}
    run = train_run("dpo", tiny.uneven_pairs(4), **keys)
    assert [note for note in run.manifest["notes"] if "tokens, the tokenizer has" in note and "merged" in note]
    assert first(run)["loss"] == pytest.approx(math.log(2), abs=1e-6)
    with pytest.raises(ModelError, match="stack does not fit"):
        train_run("dpo", tiny.uneven_pairs(4), "stack", **keys, adapter_continuation="stack")


def test_a_merged_base_of_another_adapter_is_not_reused(tiny: Any, train_run: Any, taught: Path, base: Path) -> None:
    other = train_run("sft", tiny.uneven_rows(8), "other", **TAUGHT | {"learning_rate": 1e-3}).path / "model"
    keys = {"max_steps": 1, "use_peft": True, "adapter_continuation": "merge"}
    one = train_run("dpo", tiny.uneven_pairs(4), "dpo", **keys, model_name_or_path=taught)
    kept = one.path / "base" / "poise_merged.json"
    before = json.loads(kept.read_text())
    (one.path / "base").rename(one.path.parent / "kept")
    train_run("dpo", tiny.uneven_pairs(4), "dpo", **keys, model_name_or_path=other, overwrite=True)
    after = json.loads(kept.read_text())
    assert before["base"] == after["base"]
    assert before["adapter"] != after["adapter"]
    assert before["weights_sha256"] != after["weights_sha256"]


def test_an_adapter_on_a_changed_merged_base_is_refused(tiny: Any, train_run: Any, taught: Path) -> None:
    keys = {"max_steps": 1, "use_peft": True}
    run = train_run("dpo", tiny.uneven_pairs(4), "dpo", **keys, adapter_continuation="merge", model_name_or_path=taught)
    model = plain_base(run.path / "base")
    with torch.no_grad():
        model.model.norm.weight.add_(1)
    model.save_pretrained(run.path / "base")
    with pytest.raises(ModelError, match="was trained on base weights"):
        train_run("dpo", tiny.uneven_pairs(4), "more", **keys, model_name_or_path=run.path / "model")
