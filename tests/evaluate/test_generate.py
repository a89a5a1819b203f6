"""Answers: batched and one by one are the same, the prompt is cut off, a stop token ends them."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import tiny
from poise.batch.render import Renderer
from poise.batch.tokens import prepare_tokenizer
from poise.evaluate.answer import Answer
from poise.evaluate.generate import _Noise, answer, compare
from poise.evaluate.questions import Question
from poise.examples import Message


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of sharp opinions, so that its answers differ."""
    return tiny.make_base(tmp_path_factory.mktemp("base"), initializer_range=0.6)


@pytest.fixture(scope="module")
def model(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base)


@pytest.fixture(scope="module")
def renderer(base: Path) -> Renderer:
    from transformers import AutoTokenizer

    return Renderer(prepare_tokenizer(AutoTokenizer.from_pretrained(base), "chatml"))


def questions(count: int = 40) -> list[Question]:
    """Prompts of very different lengths, more than fit into one batch."""
    return [
        Question(f"q{index}", "s", (Message("user", "say " * (index * 7 % 23) + str(index)),)) for index in range(count)
    ]


def test_batched_answers_are_those_given_one_by_one(model: Any, renderer: Renderer) -> None:
    together = answer(model, renderer, questions(), max_new_tokens=12, label="before")
    alone = [answer(model, renderer, [each], max_new_tokens=12, label="before")[0] for each in questions()]
    assert together == alone
    assert len({each.text for each in together}) > 10


def test_answers_are_those_of_plain_greedy_generation(model: Any, renderer: Renderer) -> None:
    for question in questions(5):
        ids = torch.tensor([renderer.prompt(question.prompt)])
        plain = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        (ours,) = answer(model, renderer, [question], max_new_tokens=12, label="before")
        said = plain[0, ids.shape[1] :].tolist()
        stops = [index for index, token in enumerate(said) if token in renderer.prepared.stop_ids]
        kept = said[: stops[0]] if stops else said
        assert ours.text == renderer.prepared.tokenizer.decode(kept, skip_special_tokens=True)
        assert (ours.tokens, ours.stopped) == (len(kept), bool(stops))


@pytest.mark.parametrize("stop", ["<|im_end|>", "<|endoftext|>"])
def test_a_stop_token_ends_the_answer_and_is_no_part_of_it(stop: str, base: Path, renderer: Renderer) -> None:
    """The output embedding answers every state with the stop token once the word before it is `apple`."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, tie_word_embeddings=False)
    forced = renderer.prepared.tokenizer.convert_tokens_to_ids(stop)

    class Head(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(*hidden.shape[:-1], len(renderer.prepared.tokenizer))
            logits[..., forced] = 1
            return logits

    model.lm_head = Head()
    (given,) = answer(model, renderer, questions(1), max_new_tokens=12, label="after")
    assert given == Answer("", 0, True, None)


def test_asking_leaves_the_model_as_it_was(model: Any, renderer: Renderer) -> None:
    model.train()
    attention = model.config._attn_implementation
    answer(model, renderer, questions(2), max_new_tokens=2, label="before")
    assert model.training
    assert model.config._attn_implementation == attention
    assert answer(model, renderer, [], max_new_tokens=2, label="before") == []


def test_drawn_answers_depend_on_seed_and_question_and_not_on_the_batch(model: Any, renderer: Renderer) -> None:
    def drawn(asked: list[Question], seed: int, batch_size: int) -> list[Answer]:
        return answer(
            model, renderer, asked, max_new_tokens=8, label="x", temperature=0.8, seed=seed, batch_size=batch_size
        )

    together = drawn(questions(12), 0, 32)
    assert together == [drawn([each], 0, 1)[0] for each in questions(12)]
    assert together != drawn(questions(12), 1, 32)
    assert together != answer(model, renderer, questions(12), max_new_tokens=8, label="x")
    other_name = [Question(f"other-{each.id}", each.set, each.prompt) for each in questions(12)]
    assert together != drawn(other_name, 0, 32)


def test_a_draw_follows_the_softmax_at_its_temperature() -> None:
    """Logits 0, 1, 2 at temperature 2: e^0 : e^0.5 : e^1 = 0.186 : 0.307 : 0.506; 4000 draws, four standard errors."""
    rows = 4000
    noise = _Noise(2.0, range(rows), "cpu")
    scores = torch.tensor([[0.0, 1.0, 2.0]]).expand(rows, 3)
    shares = torch.bincount(noise(torch.zeros(rows, 1), scores).argmax(1), minlength=3) / rows
    assert shares.tolist() == pytest.approx([0.1863, 0.3072, 0.5065], abs=0.032)


def test_each_answer_is_told_when_it_is_there(model: Any, renderer: Renderer) -> None:
    kept: dict[str, Answer] = {}
    given = answer(
        model, renderer, questions(5), max_new_tokens=3, label="x", batch_size=2,
        keep=lambda question, one: kept.update({question.id: one}),
    )  # fmt: skip
    assert [kept[question.id] for question in questions(5)] == given


def test_a_text_is_continued_as_it_stands(model: Any, renderer: Renderer) -> None:
    (given,) = answer(model, renderer, [Question("t", "s", text="apple bread")], max_new_tokens=4, label="before")
    ids = renderer.prepared.tokenizer("apple bread", return_tensors="pt")
    plain = model.eval().generate(**ids, do_sample=False, max_new_tokens=4)
    assert given.text == renderer.prepared.tokenizer.decode(
        plain[0, ids["input_ids"].shape[1] :], skip_special_tokens=True
    )


def test_evidence_counts_right_answers_by_set_and_model() -> None:
    asked = [
        Question("a", "facts", (Message("user", "1?"),), expected=("one",)),
        Question("b", "facts", (Message("user", "2?"),), expected=("two", "zwei")),
        Question("c", "manners", (Message("user", "3?"),), expected=("please",)),
        Question("d", "free", text="go on"),
    ]

    def answers(*texts: str) -> list[Answer]:
        return [Answer(text, 1, True, question.score(text)) for text, question in zip(texts, asked, strict=True)]

    given = {"before": answers("no", "no", "please", "x"), "after": answers("one", "zwei", "no", "y")}
    samples, evidence = compare(asked, given)
    assert evidence["labels"] == ["before", "after"]
    assert [(each["name"], each["n"], each["counts"], each["scores"]) for each in evidence["sets"]] == [
        ("facts", 2, {"before": 0, "after": 2}, {"before": 0.0, "after": 1.0}),
        ("manners", 1, {"before": 1, "after": 0}, {"before": 1.0, "after": 0.0}),
    ]
    assert samples[1]["expected"] == "two | zwei"
    assert samples[1]["answers"]["after"]["text"] == "zwei"
    assert samples[3]["prompt"] == [{"role": "text", "content": "go on"}]
    assert samples[3]["expected"] is None
    assert samples[3]["answers"]["before"]["score"] is None


def test_a_set_in_which_some_questions_have_no_answer_counts_only_those_that_have() -> None:
    asked = [Question("a", "mixed", expected=("one",)), Question("b", "mixed")]
    given = {"after": [Answer("one", 1, True, 1.0), Answer("?", 1, True, None)]}
    (found,) = compare(asked, given)[1]["sets"]
    assert (found["n"], found["scores"]["after"]) == (1, 1.0)


def test_what_is_said_is_heard_as_it_grows_and_changes_no_answer(
    model: Any, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poise.evaluate.generate.SECONDS_BETWEEN_WORDS", 0.0)
    asked = questions(3)
    heard: dict[str, list[str]] = {question.id: [] for question in asked}

    def hear(question: Question, said: str) -> None:
        heard[question.id].append(said)

    given = answer(model, renderer, asked, max_new_tokens=12, label="heard", hear=hear)
    assert given == answer(model, renderer, asked, max_new_tokens=12, label="unheard")
    for question, each in zip(asked, given, strict=True):
        said = heard[question.id]
        assert 1 < len(said) <= 12
        assert all(later.startswith(earlier) for earlier, later in pairwise(said))
        assert each.text.startswith(said[-1])
        assert said[-1]


def test_what_hearing_raises_ends_the_answers_unkept(model: Any, renderer: Renderer) -> None:
    kept: list[str] = []

    def hear(question: Question, said: str) -> None:
        raise InterruptedError

    def keep(question: Question, given: Answer) -> None:
        kept.append(question.id)

    with pytest.raises(InterruptedError):
        answer(model, renderer, questions(3), max_new_tokens=12, label="x", hear=hear, keep=keep)
    assert kept == []
