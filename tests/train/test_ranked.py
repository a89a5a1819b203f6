"""Ranked answers: one row of k answers is the mean over its pairs, at the cost of k answers and one prompt."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from poise.batch.batch import make_batch
from poise.batch.objective import Objective
from poise.batch.render import Renderer
from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.batch.tokens import prepare_tokenizer
from poise.evaluate.questions import questions_from
from poise.examples import Message, PreferencePair, RankedAnswers
from poise.objectives.dpo import DPO
from poise.objectives.ipo import IPO
from poise.objectives.orpo import ORPO
from poise.plan import mask
from poise.recipe import load_recipe
from poise.train.prepare import prepare

ASKED = (Message("user", "Say apple and bread and cloud"),)
ANSWERS = ("apple bread cloud", "apple", "no", "stone tiger moon night ocean")


def said(text: str) -> tuple[Message, ...]:
    return (Message("assistant", text),)


def four(ranks: tuple[int, ...]) -> tuple[RankedAnswers, list[PreferencePair]]:
    """Return four ranked answers, and the pairs they come to, made one by one."""
    pairs = [
        PreferencePair(ASKED, said(better), said(worse))
        for better, high in zip(ANSWERS, ranks, strict=True)
        for worse, low in zip(ANSWERS, ranks, strict=True)
        if high < low
    ]
    return RankedAnswers(ASKED, tuple(map(said, ANSWERS)), ranks), pairs


@pytest.fixture(scope="module")
def renderer(base: Path) -> Renderer:
    from transformers import AutoTokenizer

    return Renderer(prepare_tokenizer(AutoTokenizer.from_pretrained(base), "chatml"))


def rendered(renderer: Renderer, *examples: Any) -> list[Row]:
    rows = list(renderer.rows(examples))
    assert all(isinstance(row, Row) for row in rows), rows
    return rows  # type: ignore[return-value]


def a_scorer(base: Path, *, moved: bool = False) -> Scorer:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64).eval()
    if moved:
        chance = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance, dtype=torch.float64))
    return Scorer(model)


def step(objective: Objective, base: Path, rows: list[Row]) -> tuple[float, dict[str, Tensor]]:
    """Return the mean loss over all pairs, and every gradient."""
    policy, frozen = a_scorer(base, moved=True), a_scorer(base)
    batch = make_batch(rows)
    with torch.no_grad():
        reference = frozen(batch) if objective.needs_reference else None
    loss = objective(policy(batch), reference)[0].mean()
    loss.backward()
    return loss.item(), {name: each.grad for name, each in policy.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("objective", [DPO(beta=0.3), IPO(), ORPO(beta=0.25)], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(("ranks", "pairs"), [((0, 1, 2, 3), 6), ((2, 0, 1, 1), 5), ((0, 1, 1, 1), 3)])
def test_a_ranked_row_is_the_mean_over_its_pairs(
    objective: Objective, ranks: tuple[int, ...], pairs: int, base: Path, renderer: Renderer
) -> None:
    """In float64; Llama still normalises in float32, which leaves 1e-7 of the values."""
    ranked, spelled_out = four(ranks)
    assert len(spelled_out) == pairs
    loss, gradients = step(objective, base, rendered(renderer, ranked))
    expected, expected_gradients = step(objective, base, rendered(renderer, *spelled_out))
    assert loss == pytest.approx(expected, rel=1e-6)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        assert (gradients[name] - gradient).norm() <= 1e-6 * gradient.norm(), name


def test_a_prompt_and_its_answers_are_computed_once(renderer: Renderer) -> None:
    """Six pairs compute the prompt six times, and each answer three times, where no row is shared."""
    ranked, spelled_out = four((0, 1, 2, 3))
    (row,), apart = rendered(renderer, ranked), rendered(renderer, *spelled_out)
    prompt, *answers = (len(segment) for segment in row.segments)
    assert row.tokens == prompt + sum(answers)
    assert sum(each.tokens for each in apart) == 6 * prompt + 3 * sum(answers)
    assert sum(sum(each.sequence_lengths()) for each in apart) == 12 * prompt + 3 * sum(answers)
    assert row.pairs == [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]


def ranked_rows(tiny: Any, count: int = 20) -> list[dict[str, Any]]:
    """Answers of which the one that says the word itself is the best; some rows have ties, some a repeated answer."""
    words = tiny.WORDS
    return [
        {
            "prompt": f"Say {words[index % 20]}",
            "answers": [words[(index + 7) % 20], words[index % 20], " ".join(words[:3]), words[index % 20]][
                : 3 + index % 2
            ],
            "scores": [[2, 9, 1, 4], [2, 9, 2, 4]][index % 2][: 3 + index % 2],
        }
        for index in range(count)
    ]


@pytest.mark.parametrize("verb", ["dpo", "orpo"])
def test_ranked_rows_train_end_to_end(verb: str, tiny: Any, train_run: Any) -> None:
    run = train_run(verb, ranked_rows(tiny), learning_rate=3e-3, num_train_epochs=6, per_device_train_batch_size=10)
    first, last = run.metrics()[0], run.metrics()[-1]
    assert run.ledger()["in"] == run.ledger()["used"] == 20
    assert last["rewards/margins"] > first["rewards/margins"] + 0.05
    assert last["loss"] < first["loss"]
    # every other row has a fourth answer, which repeats the second with a lower score
    told = [note for note in run.manifest["notes"] if "ranked answers" in note]
    assert told == ["10 of 70 ranked answers are left out: empty, or said already by a better one"]


def test_cutting_a_step_of_ranked_rows_changes_neither_losses_nor_weights(
    tiny: Any, train_run: Any, weights: Any, losses: Any
) -> None:
    rows = ranked_rows(tiny, 16)
    steps = {"learning_rate": 3e-4, "per_device_train_batch_size": 8, "num_train_epochs": 2}
    whole = train_run("dpo", rows, "whole", **steps)
    expected = weights(whole.path / "model")
    for name, cut in {
        "4 x 2": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        "every row alone": {"tokens_per_micro_batch": 1},
        "nothing shared": {"prefix_sharing": "off"},
    }.items():
        run = train_run("dpo", rows, name, **steps | cut)
        assert losses(run) == pytest.approx(losses(whole), rel=1e-6), name
        for key, tensor in weights(run.path / "model").items():
            assert torch.allclose(tensor, expected[key], rtol=0, atol=1e-5), f"{name}: {key}"


def test_each_pair_counts_once_so_more_answers_weigh_more(tiny: Any, train_run: Any, losses: Any) -> None:
    """A row of three distinct ranks has three pairs, one of two has one: the step's mean is over four."""
    words = tiny.WORDS
    rows = [
        {"prompt": "Say apple", "answers": list(words[:3]), "scores": [3, 2, 1]},
        {"prompt": "Say bread", "answers": list(words[3:5]), "scores": [1, 2]},
    ]
    pairs = [
        {"prompt": "Say apple", "chosen": words[high], "rejected": words[low]} for high, low in ((0, 1), (0, 2), (1, 2))
    ]
    pairs.append({"prompt": "Say bread", "chosen": words[4], "rejected": words[3]})
    options = {"max_steps": 2, "learning_rate": 1e-2, "max_grad_norm": 100.0, "lr_scheduler_type": "constant"}
    together = train_run("orpo", rows, "together", per_device_train_batch_size=2, **options)
    apart = train_run("orpo", pairs, "apart", per_device_train_batch_size=4, **options)
    assert losses(together) == pytest.approx(losses(apart), rel=1e-5)
    assert together.metrics()[0]["rewards/margins"] == pytest.approx(apart.metrics()[0]["rewards/margins"], abs=1e-6)


def prepared(tiny: Any, base: Path, verb: str, *overrides: str, **values: Any) -> Any:
    return prepare(load_recipe(verb, None, [*tiny.settings(model_name_or_path=base, **values), *overrides]))


def test_pairs_and_ranked_answers_may_be_mixed_and_are_held_out_by_prompt(
    tiny: Any, base: Path, tmp_path: Path
) -> None:
    ranked = tiny.write_rows(tmp_path / "ranked.jsonl", ranked_rows(tiny, 10))
    pairs = [{"prompt": f"Say {tiny.WORDS[index]}", "chosen": "yes", "rejected": "no"} for index in range(10)]
    other = tiny.write_rows(tmp_path / "pairs.jsonl", pairs)
    mixture = {"datasets": [{"id": str(ranked)}, {"id": str(other)}], "test_split_size": 6}
    loaded = prepared(tiny, base, "dpo", f"dataset_mixture={json.dumps(mixture)}").loaded
    assert len(loaded.held_out) == 6
    asked = [{question.prompt for question in questions_from(part, 20)} for part in (loaded.held_out, loaded.train)]
    assert not set.intersection(*asked)
    assert {example.kind for example in loaded.train} == {"ranked_answers", "preference_pair"}


def test_the_mask_shows_every_answer_with_its_rank(tiny: Any, base: Path, tmp_path: Path) -> None:
    data = tiny.write_rows(tmp_path / "rows.jsonl", ranked_rows(tiny, 2))
    told, _ = mask(None, tiny.settings(model_name_or_path=base, dataset_name=data), verb="dpo", number=0)
    labels = [segment["label"] for segment in told["segments"]]
    assert labels == ["prompt", "answer of rank 1", "answer of rank 2", "answer of rank 3"]
    assert told["segments"][1]["text"] == "⟦apple<|im_end|>⟧\n"


def test_packing_does_not_tear_answers_from_their_prompt(tiny: Any, base: Path, tmp_path: Path) -> None:
    data = tiny.write_rows(tmp_path / "rows.jsonl", ranked_rows(tiny, 4))
    rows = prepared(tiny, base, "dpo", dataset_name=data, packing=True).rendered.train
    assert [len(row.segments) for row in rows] == [4] * 4
    assert all(row.pairs for row in rows)
