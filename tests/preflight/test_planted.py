"""Planted faults, each found under its code: in recipes and schedules, lengths, templates, rows, pairs, machine, model.

The rows of the last list are valid and harmful: what other stacks train on without a word.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poise.errors import PoiseError
from poise.preflight.finding import Finding
from poise.preflight.machine import Machine

LookAt = Callable[..., list[Finding]]
LoRA = {"use_peft": True}
SMALL = Machine("cuda", memory_bytes=8 * 2**30, disk_free_bytes=2**40)
FULL_DISK = Machine("cuda", memory_bytes=2**40, disk_free_bytes=600 * 2**20)
NEARLY_FULL_DISK = replace(FULL_DISK, disk_free_bytes=3 * 2**30)
GEMMA_DPO = {"torch_dtype": "bfloat16", "learning_rate": 5e-7, "beta": 0.05}
DOUBLE_BOS = (
    "{{ bos_token }}{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKS_ONLY_AT_INFERENCE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\nThink: {% endif %}"
)
WITHOUT_SYSTEM = (
    "{% for m in messages %}{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LAST_TURN_ALONE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<t></t>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<t></t>{% endif %}"
)

RECIPES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("the tutorial's 1e-5 on 1B with LoRA", "W101", "dpo", {"model": "tinyllama-1.1b", "learning_rate": 1e-5, **LoRA}),
    ("1e-5 with all weights of a small model", "W101", "dpo", {"learning_rate": 1e-5}),
    ("SimPO at 1e-5", "W101", "simpo", {"model": "mistral-7b", "learning_rate": 1e-5}),
    ("axolotl's DPO example, 2e-4 with LoRA", "E101", "dpo", {"learning_rate": 2e-4, **LoRA}),
    ("torchtune's DPO recipe, 5e-4 with LoRA", "E101", "dpo", {"learning_rate": 5e-4, **LoRA}),
    ("SFT's rate for LoRA with all weights of 7B", "W101", "sft", {"model": "mistral-7b", "learning_rate": 2e-4}),
    ("SFT with LoRA at 2e-3", "W101", "sft", {"learning_rate": 2e-3, **LoRA}),
    ("SFT with LoRA at DPO's rate", "W102", "sft", {"learning_rate": 1e-6, **LoRA}),
    ("DPO with LoRA at the rate of all weights", "N102", "dpo", {"learning_rate": 1e-6, **LoRA}),
    ("ORPO at 1e-4", "W101", "orpo", {"model": "mistral-7b", "learning_rate": 1e-4}),
    ("more warmup than steps", "W103", "sft", {"warmup_steps": 100, "max_steps": 50}),
    ("a batch larger than the data", "N104", "sft", {"gradient_accumulation_steps": 64}),
    ("checkpoints after the end", "N105", "sft", {"save_steps": 500}),
    ("evaluations after the end", "N106", "sft", {"eval_strategy": "steps", "eval_steps": 500}),
    ("max_steps within the first epoch", "N107", "sft", {"max_steps": 3}),
    ("the best model without evaluations", "E108", "sft", {"load_best_model_at_end": True}),
    ("a schedule without its argument", "E108", "sft", {"lr_scheduler_type": "cosine_with_min_lr"}),
    ("sigmoid_norm's beta in DPO", "W109", "dpo", {"beta": 5.0}),
    ("DPO's beta in SimPO", "W109", "simpo", {"beta": 0.1}),
    ("the handbook's Gemma DPO in bfloat16", "W110", "dpo", GEMMA_DPO),
    ("another reference", "N111", "dpo", {"ref_model_name_or_path": "elsewhere"}),
    ("all weights in float16", "W502", "sft", {"torch_dtype": "float16"}),
    ("DoRA over 8-bit weights on the CPU", "E501", "sft", {"use_dora": True, "load_in_8bit": True, **LoRA}),
    ("flash attention without CUDA", "N504", "sft", {"attn_implementation": "flash_attention_2"}),
    ("7B in full on 8 GB", "E508", "sft", {"model": "mistral-7b", "machine": SMALL}),
    ("no room for checkpoints", "W507", "sft", {"machine": NEARLY_FULL_DISK, "save_steps": 0.1, "max_steps": 40}),
    ("no room for the model", "E507", "sft", {"model": "tinyllama-1.1b", "machine": FULL_DISK}),
    ("adapter layers of another architecture", "E601", "sft", {"lora_target_modules": ["c_attn"], **LoRA}),
    ("a template that begins with bos twice", "W304", "sft", {"chat_template": DOUBLE_BOS}),
    ("an eos that no answer ends in", "W305", "sft", {"chat_template": "chatml", "eos_token": "</s>"}),
    ("only the last turn reads as at inference", "N308", "sft", {"chat_template": LAST_TURN_ALONE}),
    ("half of the rows over max_length", "E201", "sft", {"max_length": 46}),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "code", "verb", "values"), RECIPES, ids=lambda value: str(value)[:44])
def test_a_fault_of_the_recipe(
    fault: str, code: str, verb: str, values: dict[str, Any], look: LookAt, made: Any
) -> None:
    rows = made.pairs(60) if verb in ("dpo", "simpo", "orpo") else made.chats(60)
    held_out = rows[-10:] if "eval_strategy" in values else None
    codes = {finding.code for finding in look(verb, rows[:50], held_out, **values)}
    assert code in codes
    assert not {each for each in codes if each[0] in "EW"} - {code, "N" + code[1:]}, "nothing else is blamed"


REFUSED: list[tuple[str, str, str, dict[str, Any]]] = [
    ("a template that prompts otherwise", "E301", "chats", {"chat_template": THINKS_ONLY_AT_INFERENCE}),
    ("a template that fails", "E302", "chats", {"chat_template": "{{ messages[9].content }}"}),
    ("pairs given to sft", "E401", "pairs", {}),
    ("every row too long", "E402", "chats", {"max_length": 8}),
]


@pytest.mark.parametrize(("fault", "code", "kind", "values"), REFUSED, ids=lambda value: str(value)[:44])
def test_what_stops_while_rows_are_rendered_has_a_code_too(
    fault: str, code: str, kind: str, values: dict[str, Any], look: LookAt, made: Any
) -> None:
    with pytest.raises(PoiseError) as error:
        look("sft", getattr(made, kind)(10), **values)
    assert error.value.code == code


def copied(made: Any) -> list[dict[str, Any]]:
    return [*made.chats(60), *made.chats(12)]


def with_answers(*answers: str) -> Callable[[Any], list[dict[str, Any]]]:
    return lambda made: [*made.chats(100 - len(answers)), *(made.chat(f"Say {n}", a) for n, a in enumerate(answers))]


def with_pairs(count: int, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], list[dict[str, Any]]]:
    return lambda made: [row if n >= count else change(row) for n, row in enumerate(made.pairs(100))]


def turned(count: int) -> Callable[[Any], list[dict[str, Any]]]:
    return lambda made: [
        *made.pairs(100),
        *({**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in made.pairs(count)),
    ]


def with_system(count: int) -> Callable[[Any], list[dict[str, Any]]]:
    system = {"role": "system", "content": "Keep the secret."}
    return lambda made: [
        {"messages": [*([system] if n < count else []), *row["messages"]]} for n, row in enumerate(made.chats(50))
    ]


def marked(made: Any) -> list[dict[str, Any]]:
    return [made.chat(f"<|im_start|>user\nWrite {made.text(n, 3)}<|im_end|>", made.text(n, 4)) for n in range(60)]


def verbose(made: Any) -> list[dict[str, Any]]:
    return [{**row, "chosen": made.text(n, 80), "rejected": made.text(n, 9)} for n, row in enumerate(made.pairs(60))]


HARMFUL: list[tuple[str, str, str, Callable[[Any], list[dict[str, Any]]], dict[str, Any]]] = [
    ("copies", "N409", "sft", copied, {}),
    ("some empty answers", "N404", "sft", with_answers("", " "), {}),
    ("many empty answers", "W404", "sft", with_answers(*[""] * 20), {}),
    ("mostly empty answers", "E404", "sft", with_answers(*[""] * 70), {}),
    ("nan in a few answers", "W412", "sft", with_answers("nan", "NaN", "undefined"), {}),
    ("broken characters", "N413", "sft", with_answers("na\N{REPLACEMENT CHARACTER}ve"), {}),
    ("a control token in the text", "N411", "sft", with_answers("write <|im_end|> here"), {}),
    ("rows rendered before", "W411", "sft", marked, {}),
    ("one answer for nearly all", "N408", "sft", with_answers(*["Yes."] * 60), {}),
    ("a few system turns dropped", "W303", "sft", with_system(2), {"chat_template": WITHOUT_SYSTEM}),
    ("all but a few system turns dropped", "E303", "sft", with_system(40), {"chat_template": WITHOUT_SYSTEM}),
    ("a few long rows", "N201", "sft", with_answers("long " * 40), {"max_length": 128}),
    ("long answers", "W201", "sft", with_answers(*["long " * 40] * 8), {"max_length": 128}),
    ("rows beyond learned positions", "E202", "sft", with_answers("long " * 100), {"model": "gpt2"}),
    ("rows beyond the trained context", "W202", "sft", with_answers("long " * 300), {"model": "tiny"}),
    ("a few pairs of equals", "N403", "dpo", with_pairs(3, lambda row: {**row, "rejected": row["chosen"]}), {}),
    ("many pairs of equals", "W403", "dpo", with_pairs(20, lambda row: {**row, "rejected": row["chosen"]}), {}),
    ("mostly pairs of equals", "E403", "dpo", with_pairs(60, lambda row: {**row, "rejected": row["chosen"]}), {}),
    ("chosen far longer in all pairs", "W405", "dpo", verbose, {}),
    ("chosen longer in all pairs", "N405", "dpo",
     with_pairs(100, lambda row: {**row, "chosen": row["rejected"] + " apple"}), {}),
    ("a few pairs both ways round", "N406", "dpo", turned(2), {}),
    ("many pairs both ways round", "W406", "dpo", turned(20), {}),
    ("one rejected answer", "N407", "dpo", with_pairs(80, lambda row: {**row, "rejected": "No."}), {}),
]  # fmt: skip


def shown(value: Any) -> str:
    """Name a parameter alike in every process: no address of a function."""
    return value.__name__ if callable(value) else str(value)[:44]


@pytest.mark.parametrize(("fault", "code", "verb", "rows", "values"), HARMFUL, ids=shown)
def test_a_fault_of_the_rows(
    fault: str, code: str, verb: str, rows: Callable[[Any], list[dict[str, Any]]], values: dict[str, Any],
    look: LookAt, made: Any,
) -> None:  # fmt: skip
    findings = look(verb, rows(made), **{"model": "tiny", "max_length": 4096} | values)
    found = {finding.code: finding for finding in findings}
    assert code in found
    assert not {each for each in found if each[0] in "EW"} - {code}, "nothing else is blamed"
    assert found[code].rows or code in ("N405", "W405", "N407", "N408"), "the rows are named"


def test_held_out_questions_that_are_trained_on(look: LookAt, made: Any) -> None:
    rows = made.chats(60)
    findings = {each.code: each for each in look("sft", rows, rows[:20], eval_strategy="epoch", model="tiny")}
    assert len(findings["W410"].rows) == 20
    assert "test.jsonl:1" in findings["W410"].rows[0]


def test_an_evaluation_whose_rows_were_all_dropped(look: LookAt, made: Any) -> None:
    held_out = [made.chat("Say", "long " * 100)]
    codes = {each.code for each in look("sft", made.chats(20), held_out, eval_strategy="epoch", max_length=64)}
    assert "E415" in codes


def test_a_split_by_question_that_holds_nothing_out(look: LookAt, made: Any, tmp_path: Path) -> None:
    rows = [made.chat("Say it again", f"answer {number}") for number in range(20)]
    mixture = {"datasets": [{"id": str(tmp_path / "data" / "train.jsonl")}], "test_split_size": 2}
    named = {"dataset_name": None, "dataset_train_split": None, "dataset_mixture": mixture}
    found = look("sft", rows, eval_strategy="epoch", **named)
    (told,) = [finding for finding in found if finding.code == "E415"]
    assert "every question has more than test_split_size 2" in told.what
    assert "a larger test_split_size" in told.remedy


def test_held_out_rows_that_nobody_evaluates(look: LookAt, made: Any) -> None:
    assert "N416" in {each.code for each in look("sft", made.chats(20), made.chats(30)[20:])}


def test_rows_that_are_broken(look: LookAt, made: Any) -> None:
    broken = [{"messages": [{"role": "usr", "content": "Hi"}]}] * 20
    findings = {each.code: each for each in look("sft", [*made.chats(80), *broken], on_bad_row="drop")}
    assert "20 of 100 rows (20 %)" in findings["W414"].what


def test_a_template_other_than_the_models_own(
    look: LookAt, made: Any, models: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("own")
    tokenizer = AutoTokenizer.from_pretrained(models / "tiny")
    tokenizer.chat_template = WITHOUT_SYSTEM
    made.make_models(folder, tokenizer)
    assert "W306" in {each.code for each in look("dpo", made.pairs(20), folder=folder, chat_template="chatml")}
    assert "W306" not in {each.code for each in look("dpo", made.pairs(20), folder=folder)}


def test_an_answer_without_its_stop_token(look: LookAt, made: Any, known_of: Callable[..., Any]) -> None:
    from poise.preflight.template import check_stops

    known = known_of("sft", made.chats(10))
    assert not list(check_stops(known))
    (segment,) = known.rows[0].segments
    cut = np.flatnonzero(segment.trained)[-1]
    shorter = replace(segment, ids=segment.ids[:cut], trained=segment.trained[:cut])
    (finding,) = check_stops(replace(known, rows=[replace(known.rows[0], segments=(shorter,)), *known.rows[1:]]))
    assert finding.code == "E307"
    assert finding.rows[0].startswith(known.rows[0].id)


def test_a_reference_below_the_adapter(made: Any, known_of: Callable[..., Any]) -> None:
    from poise.preflight.precision import check_reference

    known = known_of("dpo", made.pairs(10), ref_model_name_or_path="the-base", use_peft=True)
    (finding,) = check_reference(replace(known, model=replace(known.model, adapter_base="the-base/")))
    assert finding.code == "W111"


def test_a_tracker_without_credentials(made: Any, known_of: Callable[..., Any]) -> None:
    from poise.preflight.resources import check_trackers

    known = known_of("sft", made.chats(10))
    recipe = known.recipe.model_copy(update={"training": {**known.recipe.training, "report_to": ["wandb"]}})
    (finding,) = check_trackers(replace(known, recipe=recipe, machine=Machine(logged_in=frozenset())))
    assert finding.code == "W506"
    assert "WANDB_API_KEY" in finding.remedy
    assert not list(check_trackers(replace(known, recipe=recipe, machine=Machine(logged_in=frozenset({"wandb"})))))


def test_a_tokenizer_of_another_model(made: Any, known_of: Callable[..., Any]) -> None:
    from poise.preflight.resources import check_vocabulary

    known = known_of("sft", made.chats(10))
    (finding,) = check_vocabulary(replace(known, model=replace(known.model, vocabulary=200)))
    assert finding.code == "W602"


def test_a_probe_that_forecasts_too_much_memory(made: Any, known_of: Callable[..., Any]) -> None:
    from poise.preflight.resources import check_memory

    known = replace(known_of("sft", made.chats(10)), forecast_memory_bytes=10 * 2**30, machine=SMALL)
    (finding,) = check_memory(known)
    assert finding.code == "W508"


def test_forty_faults_and_twenty_harmful_datasets_are_planted() -> None:
    assert len(RECIPES) + len(REFUSED) >= 36
    assert len(HARMFUL) >= 20
