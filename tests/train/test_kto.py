"""KTO end to end: one divergence per optimizer step, however it is cut; what it says, refuses and learns."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from poise.batch.batch import Batch, make_batch
from poise.batch.logps import Logps
from poise.batch.score import Scorer
from poise.errors import DataError
from poise.evaluate.questions import questions_from
from poise.objectives.kto import KTO
from poise.plan import mask
from poise.recipe import load_recipe
from poise.train import whole_step
from poise.train.prepare import prepare

CUTS: dict[str, dict[str, Any]] = {
    "4 x 2": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "1 x 8": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
    "micro-batches of 90 tokens": {"tokens_per_micro_batch": 90},
    "every row alone": {"tokens_per_micro_batch": 1},
    "nothing shared": {"prefix_sharing": "off"},
}
METRICS = {"rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected", "kl"}


def labelled(tiny: Any, count: int = 24) -> list[dict[str, Any]]:
    """Answers of very different lengths, a third of them undesirable."""
    return [
        {
            "prompt": pair["prompt"],
            "completion": pair["rejected" if index % 3 == 0 else "chosen"],
            "label": index % 3 != 0,
        }
        for index, pair in enumerate(tiny.uneven_pairs(count))
    ]


def two_manners(tiny: Any) -> list[dict[str, Any]]:
    """To each of twenty questions a word of the first ten is a desirable answer, one of the others an undesirable."""
    order = (turn * 7 % 40 for turn in range(40))
    return [
        {
            "prompt": f"Say {tiny.WORDS[each % 20]}",
            "completion": tiny.WORDS[each // 20 * 10 + each % 10],
            "label": each < 20,
        }
        for each in order
    ]


def prepared(tiny: Any, base: Path, data: Path, verb: str = "kto", **values: Any) -> Any:
    chosen = {"model_name_or_path": base, "dataset_name": data, "output_dir": data.parent / "run", **values}
    return prepare(load_recipe(verb, None, tiny.settings(**chosen)))


@pytest.mark.parametrize("verb", ["kto", "apo_zero_unpaired"])
def test_cutting_a_step_changes_neither_losses_nor_weights(
    verb: str, tiny: Any, train_run: Any, weights: Any, losses: Any
) -> None:
    steps = {"learning_rate": 3e-4, "per_device_train_batch_size": 8, "num_train_epochs": 2}
    rows = labelled(tiny)
    whole = train_run(verb, rows, "whole", **steps)
    expected = weights(whole.path / "model")
    assert len(losses(whole)) == 6
    for name, cut in CUTS.items():
        run = train_run(verb, rows, name, **steps | cut)
        assert losses(run) == pytest.approx(losses(whole), rel=1e-6), name
        for key, tensor in weights(run.path / "model").items():
            assert torch.allclose(tensor, expected[key], rtol=0, atol=1e-5), f"{name}: {key}"
        for mine, theirs in zip(run.metrics(), whole.metrics(), strict=True):
            assert mine.keys() == theirs.keys()
            for metric in METRICS & mine.keys():
                assert mine[metric] == pytest.approx(theirs[metric], rel=1e-4, abs=1e-5), f"{name}: {metric}"
    kl = [line["kl"] for line in whole.metrics() if "kl" in line]
    assert (len(kl) == 6 and max(kl) > 0.01) if verb == "kto" else not kl


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*is deprecated:FutureWarning")  # peft 0.21's old names
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_step_scored_twice_has_the_gradient_of_one_pass(
    dropout: float, tiny: Any, base: Path, tmp_path: Path
) -> None:
    """Also under dropout, which draws in the second pass what it drew in the first."""
    rows = prepared(tiny, base, tiny.write_rows(tmp_path / "rows.jsonl", labelled(tiny, 6))).rendered.train
    batch, objective = make_batch(rows), KTO(beta=0.5)
    model = AutoModelForCausalLM.from_pretrained(base, attention_dropout=0.0)
    scorer = Scorer(get_peft_model(model, LoraConfig(r=4, lora_dropout=dropout, init_lora_weights=False)))
    with torch.no_grad():
        reference = scorer.eval()(batch)
    lengths: list[int] = []

    def forward(each: Batch) -> Logps:
        lengths.append(each.tokens)
        return scorer(each)

    scorer.train()
    torch.manual_seed(1)
    objective(forward(batch), reference)[0].sum().backward()
    expected = gradients(scorer)
    torch.manual_seed(1)
    scored = whole_step.score([batch], forward)
    _, _, (gradient,) = whole_step.token_gradients(objective, scored, reference, lambda own: [own], rank=0)
    whole_step.surrogate(scored[0], gradient, forward)[0].backward()
    assert max(each.norm() for each in expected.values()) > 1e-3
    for name, each in gradients(scorer).items():
        torch.testing.assert_close(each, expected[name], rtol=1e-4, atol=1e-6)
    assert (lengths[2] < lengths[1]) == (dropout == 0)


def gradients(scorer: Scorer) -> dict[str, torch.Tensor]:
    """Return the gradients of what is trained, and clear them."""
    found = {name: each.grad.clone() for name, each in scorer.named_parameters() if each.grad is not None}
    scorer.zero_grad()
    return found


def test_the_loss_starts_at_half_and_desirable_answers_gain(tiny: Any, train_run: Any) -> None:
    run = train_run(
        "kto", two_manners(tiny), learning_rate=1e-3, per_device_train_batch_size=8, num_train_epochs=6, beta=0.5
    )
    first, last = run.metrics()[0], run.metrics()[-1]
    assert first["loss"] == pytest.approx(0.5, abs=1e-6)
    assert first["kl"] == pytest.approx(0, abs=1e-5)
    assert last["loss"] < 0.3
    assert last["rewards/chosen"] > first["rewards/chosen"] + 0.5
    assert last["rewards/rejected"] < first["rewards/rejected"] - 0.5
    assert last["rewards/margins"] == pytest.approx(last["rewards/chosen"] - last["rewards/rejected"])
    assert run.manifest["status"] == "done"


def test_the_reference_may_follow_the_policy(tiny: Any, train_run: Any, losses: Any) -> None:
    """Moved whole after every update it is the policy again, and every loss a half; also over several micro-batches."""
    steps = {"per_device_train_batch_size": 8, "learning_rate": 1e-3, "max_steps": 3, "tokens_per_micro_batch": 90}
    moves = {"sync_ref_model": True, "ref_model_mixup_alpha": 1.0, "ref_model_sync_steps": 1}
    assert losses(train_run("kto", labelled(tiny), **steps, **moves)) == pytest.approx([0.5] * 3, abs=1e-6)


def test_held_out_rows_have_mismatches_of_their_own_and_are_evaluated(
    tiny: Any, train_run: Any, base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    tiny.write_rows(folder / "train.jsonl", labelled(tiny, 16))
    tiny.write_rows(folder / "test.jsonl", labelled(tiny, 5))
    run = train_run("kto", folder, dataset_test_split="test", eval_strategy="steps", eval_steps=1, max_steps=2,
                    learning_rate=1e-3)  # fmt: skip
    told = [line for line in run.metrics() if "eval_loss" in line]
    assert len(told) == 2
    assert {f"eval_{name}" for name in METRICS} <= told[0].keys()
    made = prepared(tiny, base, folder, dataset_test_split="test").rendered
    own = {row.segments[1].ids.tobytes() for row in made.held_out}
    assert len(made.held_out) == 5
    assert {row.segments[2].ids.tobytes() for row in made.held_out} <= own


def test_an_evaluation_is_one_step_over_all_held_out_rows(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    """The same rows trained on in one step and held out, in micro-batches of one row: the same loss and divergence."""
    folder = tmp_path / "data"
    tiny.write_rows(folder / "train.jsonl", labelled(tiny, 9))
    tiny.write_rows(folder / "test.jsonl", labelled(tiny, 9))
    run = train_run("kto", folder, dataset_test_split="test", eval_strategy="steps", eval_steps=1, max_steps=2,
                    learning_rate=1e-3, per_device_train_batch_size=9, tokens_per_micro_batch=1)  # fmt: skip
    after_first = next(line for line in run.metrics() if "eval_loss" in line)
    second_step = next(line for line in run.metrics() if line["step"] == 2 and "loss" in line)
    for name in ("loss", "kl", "rewards/chosen", "rewards/margins"):
        assert after_first[f"eval_{name}"] == pytest.approx(second_step[name], rel=1e-5, abs=1e-6), name


def test_pairs_are_read_as_two_answers_that_share_their_prompt(
    tiny: Any, train_run: Any, base: Path, tmp_path: Path, losses: Any
) -> None:
    pairs = tiny.uneven_pairs(8)
    run = train_run("kto", pairs, per_device_train_batch_size=4, num_train_epochs=2, learning_rate=1e-3)
    assert any("8 preference pairs are read as 8 desirable and 8 undesirable" in note for note in run.manifest["notes"])
    made = prepared(tiny, base, tiny.write_rows(tmp_path / "pairs.jsonl", pairs)).rendered
    assert [[segment.label for segment in row.segments] for row in made.train] == [
        [None, "desirable", "undesirable", "mismatched"]
    ] * 8
    assert losses(run)[0] == pytest.approx(0.5, abs=1e-6)
    assert {"rewards/chosen", "rewards/rejected", "rewards/margins"} <= run.metrics()[0].keys()


def test_pairs_unpaired_by_hand_are_the_same_step_without_an_estimate(
    tiny: Any, train_run: Any, weights: Any, losses: Any
) -> None:
    """With unpaired APO-zero, whose answers do not meet: one row of two answers, or two rows of one."""
    pairs = tiny.uneven_pairs(8)
    apart = [
        {"prompt": pair["prompt"], "completion": pair[side], "label": side == "chosen"}
        for pair in pairs
        for side in ("chosen", "rejected")
    ]
    steps = {"max_steps": 1, "learning_rate": 1e-3}
    together = train_run("apo_zero_unpaired", pairs, "together", per_device_train_batch_size=8, **steps)
    alone = train_run("apo_zero_unpaired", apart, "alone", per_device_train_batch_size=16, **steps)
    assert losses(together) == pytest.approx(losses(alone), rel=1e-6)
    mine, theirs = (weights(run.path / "model") for run in (together, alone))
    assert all(torch.allclose(mine[key], theirs[key], rtol=0, atol=1e-5) for key in mine)
    assert together.manifest["data"]["tokens"] < alone.manifest["data"]["tokens"]


def test_the_reference_of_mismatched_answers_is_stored_with_the_row(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    rows, store = labelled(tiny, 8), str(tmp_path / "store")
    first = train_run("kto", rows, "first", max_steps=1, reference_cache=store)
    again = train_run("kto", rows, "again", max_steps=1, reference_cache=store, per_device_train_batch_size=2, beta=0.3)
    assert not first.manifest["reference"]["cached"]
    assert again.manifest["reference"]["cached"]


def test_only_what_is_learned_counts_as_trained(tiny: Any, base: Path, tmp_path: Path) -> None:
    data = tiny.write_rows(tmp_path / "rows.jsonl", labelled(tiny, 8))
    kto, without = (prepared(tiny, base, data, verb).rendered for verb in ("kto", "apo_zero_unpaired"))
    assert kto.facts()["trained_tokens"] == without.facts()["trained_tokens"]
    assert kto.facts()["tokens"] > without.facts()["tokens"]


def test_a_single_row_is_refused(tiny: Any, train_run: Any) -> None:
    with pytest.raises(DataError, match="no other row has another answer"):
        train_run("kto", labelled(tiny, 1))


def test_a_single_held_out_row_is_refused(tiny: Any, train_run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    tiny.write_rows(folder / "train.jsonl", labelled(tiny, 4))
    tiny.write_rows(folder / "test.jsonl", labelled(tiny, 1))
    with pytest.raises(DataError, match=r"test\.jsonl:1: no other row"):
        train_run("kto", folder, dataset_test_split="test")


def test_data_of_one_label_are_told_in_a_note(tiny: Any, base: Path, tmp_path: Path) -> None:
    rows = [row | {"label": True} for row in labelled(tiny, 4)]
    (note,) = prepared(tiny, base, tiny.write_rows(tmp_path / "rows.jsonl", rows)).rendered.notes
    assert "all 4 answers are desirable" in note


def test_answers_to_one_prompt_are_held_out_together(tiny: Any, base: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Say {tiny.WORDS[index // 2]}", "completion": tiny.WORDS[index], "label": bool(index % 2)}
        for index in range(20)
    ]
    data = tiny.write_rows(tmp_path / "rows.jsonl", rows)
    mixture = {"datasets": [{"id": str(data)}], "test_split_size": 6}
    recipe = load_recipe(
        "kto", None, [*tiny.settings(model_name_or_path=base), f"dataset_mixture={json.dumps(mixture)}"]
    )
    loaded = prepare(recipe).loaded
    assert len(loaded.held_out) == 6
    asked = [{question.prompt for question in questions_from(part, 20)} for part in (loaded.held_out, loaded.train)]
    assert [len(prompts) for prompts in asked] == [3, 7]
    assert not set.intersection(*asked)


def test_the_mask_says_which_answer_is_another_row_s(tiny: Any, base: Path, tmp_path: Path) -> None:
    data = tiny.write_rows(tmp_path / "rows.jsonl", labelled(tiny, 4))
    told, _ = mask(None, tiny.settings(model_name_or_path=base, dataset_name=data), verb="kto", number=1)
    labels = [segment["label"] for segment in told["segments"]]
    assert labels == ["prompt", "desirable answer", "another row's answer, scored only"]
    assert "⟦" not in told["segments"][2]["text"]


@pytest.mark.parametrize("loss_type", ["kto", "apo_zero_unpaired"])
def test_loss_types_of_trl_choose_the_objective(loss_type: str, tiny: Any, tmp_path: Path) -> None:
    data = tiny.write_rows(tmp_path / "rows.jsonl", labelled(tiny, 4))
    settings = tiny.settings(model_name_or_path=tmp_path, dataset_name=data, loss_type=loss_type, desirable_weight=1.2)
    recipe = load_recipe("kto", None, settings)
    assert (recipe.verb, recipe.objective.desirable_weight) == (loss_type, 1.2)  # type: ignore[attr-defined]
