"""The harness model gives HFLM's answers, whatever shares a batch, and computes what requests share once."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from poise.batch.tree import Asked, lay_out_together

pytest.importorskip("lm_eval")

WORDS = ["yes", "no", "blue", "red", "stone", "river", "tower", "bridge", "green", "light"]


@pytest.fixture(scope="module")
def tokenizer(small_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(small_model)


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> LlamaForCausalLM:
    """A Llama that has learned to count through the words for a few steps, so that its answers are not by chance."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=None, eos_token_id=2, pad_token_id=3,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = torch.tensor([tokenizer(" ".join(WORDS) + ".</s>")["input_ids"]])
    for _ in range(20):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def both(model: Any, tokenizer: Any, **settings: Any) -> tuple[Any, Any]:
    from lm_eval.models.huggingface import HFLM

    from poise.evaluate.harness import PrefixSharing

    max_length = settings.get("max_length")
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, max_length=max_length), PrefixSharing(
        model, tokenizer, **settings
    )


def requests(pairs: list[tuple[Any, ...]], kind: Any = "loglikelihood") -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, pair, n, metadata=("task", n, 1)) for n, pair in enumerate(pairs)]


def agree(theirs: list[tuple[float, bool]], ours: list[tuple[float, bool]]) -> None:
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    np.testing.assert_allclose([value for value, _ in ours], [value for value, _ in theirs], atol=1e-4)


TASKS: dict[str, dict[str, Any]] = {
    "mmlu_like": {
        "description": "Choose.\n\n", "doc_to_text": "{{q}}\nA. {{c[0]}}\nB. {{c[1]}}\nC. {{c[2]}}\nAnswer:",
        "doc_to_choice": ["A", "B", "C"], "num_fewshot": 5, "fewshot_config": {"sampler": "first_n"},
    },
    "hellaswag_like": {"doc_to_text": "{{q}}", "doc_to_choice": "{{c}}", "num_fewshot": 10},
    "arc_like": {"doc_to_text": "Question: {{q}}\nAnswer:", "doc_to_choice": "{{c}}", "num_fewshot": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Tasks in the form of mmlu, hellaswag and arc on rows written here."""
    from lm_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("tasks")
    draw = random.Random(0)
    for task, prompt in TASKS.items():
        files: dict[str, str] = {}
        for split, count in (("validation", 6), ("train", 12)):
            rows = [{"q": " ".join(draw.choices(WORDS, k=3)), "c": [" ".join(draw.choices(WORDS, k=2)) for _ in "abc"],
                     "a": draw.randrange(3)} for _ in range(count)]  # fmt: skip
            files[split] = str(folder / f"{task}-{split}.jsonl")
            Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
        written = {
            "task": task, "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "doc_to_target": "a",
            "output_type": "multiple_choice", "validation_split": "validation", "fewshot_split": "train",
            "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True}
                            for name in ("acc", "acc_norm")], **prompt,
        }  # fmt: skip
        (folder / f"{task}.yaml").write_text(json.dumps(written))
    return TaskManager(include_path=str(folder), include_defaults=False)


def evaluated(model: Any, manager: Any, task: str) -> Any:
    from lm_eval.evaluator import evaluate

    loaded = manager.load([task])
    loaded["tasks"][task].set_fewshot_seed(seed=1234)
    return evaluate(model, loaded, bootstrap_iters=0)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_answered_item_by_item_as_by_hflm(task: str, model: Any, tokenizer: Any, manager: Any) -> None:
    theirs, ours = (evaluated(each, manager, task) for each in both(model, tokenizer))
    for one, other in zip(theirs["samples"][task], ours["samples"][task], strict=True):
        assert [one[key] for key in ("acc", "acc_norm", "prompt_hash")] == [
            other[key] for key in ("acc", "acc_norm", "prompt_hash")
        ]
        agree(one["filtered_resps"], other["filtered_resps"])


def test_odd_requests_are_scored_as_by_hflm(model: Any, tokenizer: Any) -> None:
    """Spaces before the ending, no context, bos written out, one ending that begins another, the same twice."""
    asked = requests([
        ("yes ", "no"), ("", "blue red"), ("", "<s> red"), ("<s>yes no", " blue"), ("yes no", " blue red stone"),
        ("yes no", " blue"), ("yes no", " blue"), ("yes\n", "red"), ("é☃", " yes"),
    ])  # fmt: skip
    theirs, ours = both(model, tokenizer)
    agree(theirs.loglikelihood(asked), ours.loglikelihood(asked))


def test_what_is_too_long_is_cut_from_the_left_as_by_hflm(model: Any, tokenizer: Any) -> None:
    asked = requests([(" ".join(WORDS * n), " yes no") for n in (1, 2, 3)])
    theirs, ours = both(model, tokenizer, max_length=60)
    agree(theirs.loglikelihood(asked), ours.loglikelihood(asked))
    rolled = requests([(" ".join(WORDS * 3),), ("red",)], "loglikelihood_rolling")
    np.testing.assert_allclose(ours.loglikelihood_rolling(rolled), theirs.loglikelihood_rolling(rolled), atol=1e-3)


def test_answers_do_not_depend_on_the_token_budget(model: Any, tokenizer: Any) -> None:
    asked = requests([("blue red stone " * 8 + word, f" {other}") for word in WORDS[:5] for other in WORDS[:4]])
    (_, wide), (_, narrow) = both(model, tokenizer), both(model, tokenizer, tokens=150)
    agree(wide.loglikelihood(asked), narrow.loglikelihood(asked))
    assert wide.computed < narrow.computed < wide.asked


def test_texts_end_at_stop_strings_as_by_hflm(model: Any, tokenizer: Any) -> None:
    settings = {"until": ["tower", "\n"], "max_gen_toks": 24, "do_sample": False}
    other = {"until": [], "max_gen_toks": 5}
    asked = requests([(text, settings) for text in ("yes no", "blue", "yes no blue red", "river tow")]
                     + [("yes no", other)], "generate_until")  # fmt: skip
    theirs, ours = both(model, tokenizer)
    told = ours.generate_until(asked)
    assert told == theirs.generate_until(asked)
    assert told == [ours.generate_until([each])[0] for each in asked]
    assert any(told)


def test_drawn_texts_differ_by_repetition_and_not_by_the_batch(model: Any, tokenizer: Any) -> None:
    settings = {"until": [], "max_gen_toks": 6, "do_sample": True, "temperature": 3.0}
    asked = requests([("yes no", settings), ("yes no", settings), ("blue", settings)], "generate_until")
    (_, ours), (_, single) = both(model, tokenizer), both(model, tokenizer, batch_size=1)
    told = ours.generate_until(asked)
    assert told == single.generate_until(asked)
    assert told[0] != told[1]


def test_a_task_that_generates_otherwise_is_refused(model: Any, tokenizer: Any) -> None:
    from poise.errors import DataError

    _, ours = both(model, tokenizer)
    with pytest.raises(DataError, match="top_p"):
        ours.generate_until(requests([("yes", {"until": ["."], "top_p": 0.5})], "generate_until"))
    with pytest.raises(DataError, match="reads 2048"):
        ours.generate_until(requests([("yes", {"until": ["."], "max_gen_toks": 4000})], "generate_until"))


def test_a_common_beginning_is_laid_out_once() -> None:
    """20 tokens of context, two questions of 20, of the first two answers; the last token of each is only predicted."""
    context, question, other = list(range(20)), list(range(20, 40)), list(range(40, 60))
    asked = [
        Asked([*context, *question, 90, 91], 2), Asked([*context, *question, 92, 93], 2),
        Asked([*context, *question, 94], 1), Asked([*context, *other, 95], 1),
    ]  # fmt: skip
    (batch,) = lay_out_together(asked, 1000)
    assert batch.layout.lengths == [20, 20, 1, 1, 20]
    assert batch.layout.ancestors == [(), (0,), (0, 1), (0, 1), (0,)]
    assert batch.position_ids[40:42].tolist() == [40, 40]
    told = sorted(zip(batch.owners.tolist(), batch.predictors.tolist(), batch.targets.tolist(), strict=True))
    assert told == [(0, 39, 90), (0, 40, 91), (1, 39, 92), (1, 41, 93), (2, 39, 94), (3, 61, 95)]


def test_a_batch_ends_where_little_is_computed_again() -> None:
    """Two contexts of 50 with two answers of 10 each: 140 tokens fit, and the cut is between the contexts."""
    contexts = [list(range(start, start + 50)) for start in (0, 100)]
    asked = [Asked([*context, *range(end, end + 11)], 1) for context in contexts for end in (200, 300)]
    assert [batch.tokens for batch in lay_out_together(asked, 125)] == [70, 70]
