"""The same rows and weights through TRL's own trainers and through poise: log-probabilities, losses, every gradient.

Everything is float32 on the CPU. The template writes nothing after the stop token: under ChatML proper TRL would train
on the newline there, which generation never writes, and poise would not. TRL pads; poise packs and shares prompts.
"""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from poise.batch.batch import Batch, make_batch
from poise.batch.logps import Logps
from poise.batch.objective import Objective
from poise.batch.preference import Pairs
from poise.batch.render import Renderer
from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.batch.tokens import prepare_tokenizer
from poise.batch.weighted import weighted_sum
from poise.examples import Conversation, Example, Message, PreferencePair
from poise.names import names_in
from poise.objectives.dpo import DPO
from poise.objectives.ipo import IPO
from poise.objectives.orpo import ORPO
from poise.objectives.sft import SFT
from poise.recipe_objective import objective_class

pytestmark = [
    # peft 0.21 and TRL ask the model for what transformers 5.23 renamed
    pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning"),
]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PAIRS = [
    (("u:What is the capital of France?",), "Paris.", "I would rather talk about the weather in London today."),
    (("s:Answer in one word.", "u:Is water wet?"), "Yes, it is wet.", "No"),
    (("u:Name a colour.", "a:Blue.", "u:Another one, please."), "Green", "Blue, blue, blue and once more blue."),
    (("u:Count",), "one two three four five six seven eight nine ten", "one"),
]
ROLES = {"s": "system", "u": "user", "a": "assistant"}
WITHIN = 1e-5

Gradients = dict[str, Tensor]


def turns(*texts: str) -> list[dict[str, str]]:
    """Read `u:hi` as a user's turn that says hi."""
    return [{"role": ROLES[text[0]], "content": text[2:]} for text in texts]


def messages(*texts: str) -> tuple[Message, ...]:
    return tuple(Message(turn["role"], turn["content"]) for turn in turns(*texts))  # type: ignore[arg-type]


PREFERENCES = [
    {"prompt": turns(*prompt), "chosen": turns(f"a:{chosen}"), "rejected": turns(f"a:{rejected}")}
    for prompt, chosen, rejected in PAIRS
]


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    """Byte-level BPE over the texts themselves, so that answers are of several lengths."""
    disable_progress_bars()
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator([text for _, *answers in PAIRS for text in answers], bpe)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|pad|>")
    return Renderer(prepare_tokenizer(tokenizer, TEMPLATE))


def a_model(renderer: Renderer, seed: int, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    tokenizer = renderer.prepared.tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.15, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(dtype)


def preference_rows(renderer: Renderer) -> list[Row]:
    pairs = [
        PreferencePair(messages(*prompt), messages(f"a:{one}"), messages(f"a:{two}")) for prompt, one, two in PAIRS
    ]
    return rendered(renderer, pairs)


def conversation_rows(renderer: Renderer, texts: Sequence[tuple[str, ...]]) -> list[Row]:
    return rendered(renderer, [Conversation(messages(*each)) for each in texts])


def rendered(renderer: Renderer, examples: Sequence[Example]) -> list[Row]:
    rows = [row for row in renderer.rows(examples) if isinstance(row, Row)]
    assert len(rows) == len(examples)
    return rows


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    """TRL's arguments: no dropout, no bfloat16, no recomputation, nothing sent anywhere."""
    return {
        "output_dir": str(folder), "bf16": False, "report_to": [], "use_cpu": True, "disable_tqdm": True,
        "gradient_checkpointing": False, "per_device_train_batch_size": len(PAIRS), **more,
    }  # fmt: skip


def padded_batch(trainer: Any) -> dict[str, Tensor]:
    """All rows of TRL's dataset through TRL's collator."""
    return trainer.data_collator([trainer.train_dataset[index] for index in range(len(trainer.train_dataset))])


def their_logps(trainer: Any, batch: dict[str, Tensor], labels: Tensor) -> list[list[float]]:
    """Log-probabilities of the counted tokens of each padded row, as TRL's fused head gives them."""
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        found = trainer.model(**inputs, labels=labels, fused_lm_head=True, use_cache=False).log_probs
    return [row[mask].tolist() for row, mask in zip(found, labels[:, 1:] != -100, strict=True)]


def by_segment(logps: Logps, segments: Sequence[int]) -> list[list[float]]:
    return [logps.values[logps.owners == segment].tolist() for segment in segments]


def gradients(model: torch.nn.Module) -> Gradients:
    """Named as in the bare model, whatever wraps it."""
    return {name: each.grad for name, each in model.named_parameters() if each.requires_grad}  # type: ignore[misc]


def assert_logps(ours: list[list[float]], theirs: list[list[float]]) -> None:
    assert [len(each) for each in ours] == [len(each) for each in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert our == pytest.approx(their, abs=WITHIN)


def assert_gradients(ours: Gradients, theirs: Gradients) -> None:
    """Each within 1e-5 of its norm, none of them zero."""
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert gradient.norm() > 0, name
        assert (ours[name] - gradient).norm() <= WITHIN * gradient.norm(), name


def trained(scorer: Scorer, batch: Batch, objective: Objective, reference: Logps | None = None) -> tuple[float, Logps]:
    """Backpropagate the mean loss per item, as the trainer does for a step of these rows."""
    scorer.with_collision = objective.needs_collision
    policy = scorer(batch)
    losses, _ = objective(policy, reference)
    loss = losses.sum() / len(losses)
    loss.backward()
    return loss.item(), policy.detach()


# SFT -----------------------------------------------------------------------------------------------------------------

CONVERSATIONS = [(*prompt, f"a:{chosen}") for prompt, chosen, _ in PAIRS]
ONE_TURN = [texts for texts in CONVERSATIONS if sum(text[0] == "a" for text in texts) == 1]
FORMS: dict[str, tuple[list[tuple[str, ...]], list[dict[str, Any]], dict[str, Any]]] = {
    "completion only": (
        ONE_TURN,
        [{"prompt": turns(*texts[:-1]), "completion": turns(texts[-1])} for texts in ONE_TURN],
        {"completion_only_loss": True},
    ),
    "assistant only, several turns": (
        CONVERSATIONS,
        [{"messages": turns(*texts)} for texts in CONVERSATIONS],
        {"assistant_only_loss": True},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_sft_is_trls_sft(renderer: Renderer, form: str, tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    texts, rows, flags = FORMS[form]
    model = a_model(renderer, seed=0)
    scorer = Scorer(copy.deepcopy(model))
    trainer = SFTTrainer(
        model,
        args=SFTConfig(**settings(tmp_path, **flags)),
        train_dataset=Dataset.from_list(rows),
        processing_class=renderer.prepared.tokenizer,
    )
    inputs = padded_batch(trainer)
    batch = make_batch(conversation_rows(renderer, texts))
    for row, (ids, mask) in zip(
        batch.rows, zip(inputs["input_ids"], inputs["attention_mask"], strict=True), strict=True
    ):
        assert row.segments[0].ids.tolist() == ids[mask.bool()].tolist()

    theirs = their_logps(trainer, inputs, inputs["labels"])
    their_loss = trainer.compute_loss(trainer.model, inputs)
    their_loss.backward()
    our_loss, policy = trained(scorer, batch, SFT())

    assert_logps(by_segment(policy, range(len(texts))), theirs)
    assert our_loss == pytest.approx(their_loss.item(), rel=WITHIN)
    assert_gradients(gradients(scorer.model), gradients(trainer.model))


# DPO -----------------------------------------------------------------------------------------------------------------


def compare_dpo(trainer: Any, scorer: Scorer, reference: Logps, batch: Batch, objective: Objective) -> None:
    """Backpropagate both and compare; a chosen row of TRL's batch stands before all rejected ones."""
    inputs = padded_batch(trainer)
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    theirs = their_logps(trainer, inputs, labels)
    trainer.model.train()
    their_loss = trainer.compute_loss(trainer.model, inputs)
    their_loss.backward()
    our_loss, policy = trained(scorer, batch, objective, reference)

    assert_logps(by_segment(policy, [*batch.chosen.tolist(), *batch.rejected.tolist()]), theirs)
    assert abs(our_loss - 0.6931472) > 1e-3, "the policy is away from the reference"
    assert our_loss == pytest.approx(their_loss.item(), rel=WITHIN)
    assert_gradients(gradients(scorer.model), gradients(trainer.model))


def test_dpo_is_trls_dpo(renderer: Renderer, tmp_path: Path) -> None:
    """Every weight trained; the reference is another model.

    Label smoothing is left to tests/objectives: TRL 1.16 ignores it under its sigmoid loss; its `robust` is another.
    """
    from trl import DPOConfig, DPOTrainer

    model, reference_model = a_model(renderer, seed=0), a_model(renderer, seed=1)
    scorer, reference_scorer = Scorer(copy.deepcopy(model)), Scorer(copy.deepcopy(reference_model))
    trainer = DPOTrainer(
        model,
        ref_model=reference_model,
        args=DPOConfig(**settings(tmp_path, beta=0.3)),
        train_dataset=Dataset.from_list(PREFERENCES),
        processing_class=renderer.prepared.tokenizer,
    )
    batch = make_batch(preference_rows(renderer))
    with torch.no_grad():
        reference = reference_scorer(batch)
    compare_dpo(trainer, scorer, reference, batch, DPO(beta=0.3))


def test_a_weighted_sum_with_every_option_is_trls(renderer: Renderer, tmp_path: Path) -> None:
    """Weights of pairs from the models' own distributions, shorter tails, a divergence, and two losses."""
    from trl import DPOConfig, DPOTrainer

    options: dict[str, Any] = {
        "beta": 0.3, "ld_alpha": 0.5, "use_weighting": True, "f_divergence_type": "js_divergence",
        "loss_type": ["sigmoid", "ipo"], "loss_weights": [0.8, 0.2],
    }  # fmt: skip
    model, reference_model = a_model(renderer, seed=0), a_model(renderer, seed=1)
    scorer, reference_scorer = Scorer(copy.deepcopy(model)), Scorer(copy.deepcopy(reference_model))
    trainer = DPOTrainer(
        model,
        ref_model=reference_model,
        args=DPOConfig(**settings(tmp_path, **options)),
        train_dataset=Dataset.from_list(PREFERENCES),
        processing_class=renderer.prepared.tokenizer,
    )
    batch = make_batch(preference_rows(renderer))
    with torch.no_grad():
        reference = reference_scorer(batch)
    compare_dpo(trainer, scorer, reference, batch, weighted_sum((("sigmoid", DPO), ("ipo", IPO)))(**options))


def test_preference_metrics_are_trls_on_even_batches_and_means_over_pairs_on_ragged_ones(
    renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL averages the means of batches: of three pairs and one, the last weighs as much as the others together."""
    from trl import DPOConfig, DPOTrainer

    from poise.evaluations import preferences

    monkeypatch.setenv("POISE_CACHE", str(tmp_path / "cache"))
    models = {name: a_model(renderer, seed=seed) for seed, name in enumerate(("policy", "reference"))}
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        renderer.prepared.tokenizer.save_pretrained(tmp_path / name)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PREFERENCES))
    options: dict[str, Any] = dict.fromkeys(str(parameter.name) for parameter in preferences.PARAMETERS)
    options |= {"model": str(tmp_path / "policy"), "reference": str(tmp_path / "reference"), "beta": 0.1}
    result = preferences.run(**options | {"data": str(tmp_path / "pairs.jsonl"), "out": tmp_path / "result"})
    pairs = [json.loads(line) for line in (tmp_path / "result" / "pairs.jsonl").read_text().splitlines()]
    lines = {line["name"]: line["estimate"]["value"] for table in result["tables"][:1] for line in table["lines"]}
    rewards = {line["name"]: line["estimate"]["value"] for table in result["tables"][2:3] for line in table["lines"]}

    def theirs(batch_size: int) -> dict[str, float]:
        trainer = DPOTrainer(
            models["policy"],
            ref_model=models["reference"],
            args=DPOConfig(**settings(tmp_path, beta=0.1, per_device_eval_batch_size=batch_size)),
            train_dataset=Dataset.from_list(PREFERENCES),
            eval_dataset=Dataset.from_list(PREFERENCES),
            processing_class=renderer.prepared.tokenizer,
        )
        return trainer.evaluate()

    even, ragged = theirs(2), theirs(3)
    for name, key in (("chosen", "chosen"), ("rejected", "rejected"), ("margin", "margins")):
        assert rewards[name] == pytest.approx(even[f"eval_rewards/{key}"], abs=1e-6)
    assert lines["reward accuracy"] == pytest.approx(100 * even["eval_rewards/accuracies"])
    margins = [pair["margin"] for pair in pairs]
    assert ragged["eval_rewards/margins"] == pytest.approx((sum(margins[:3]) / 3 + margins[3]) / 2, abs=1e-6)
    assert abs(ragged["eval_rewards/margins"] - rewards["margin"]) > 1e-3, "not the mean over pairs"


def lora() -> LoraConfig:
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.0, target_modules=layers)


def test_dpo_with_lora_is_trls_dpo_with_lora(renderer: Renderer, tmp_path: Path) -> None:
    """Both adapters have the same drawn A and B (an untrained B is zero); the reference is the model without it."""
    from trl import DPOConfig, DPOTrainer

    model = a_model(renderer, seed=0)
    base_scorer = Scorer(copy.deepcopy(model))
    adapted = get_peft_model(copy.deepcopy(model), lora())
    trainer = DPOTrainer(
        model,
        args=DPOConfig(**settings(tmp_path, beta=0.3)),
        train_dataset=Dataset.from_list(PREFERENCES),
        processing_class=renderer.prepared.tokenizer,
        peft_config=lora(),
    )
    torch.manual_seed(2)
    theirs = dict(trainer.model.named_parameters())
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.2)
                theirs[name].copy_(parameter)
    batch = make_batch(preference_rows(renderer))
    with torch.no_grad():
        reference = base_scorer(batch)
    compare_dpo(trainer, Scorer(adapted), reference, batch, DPO(beta=0.3))


# ORPO ----------------------------------------------------------------------------------------------------------------


def papers_orpo(model: Any, rows: Sequence[Row], beta: float) -> Tensor:
    """Mean loss over pairs, one plain forward pass per answer, with P and odds as equations 3 to 7 write them."""
    losses = []
    for row in rows:
        prompt, *answers = (torch.from_numpy(segment.ids).long() for segment in row.segments)
        likelihoods = []
        for answer in answers:
            ids = torch.cat([prompt, answer])
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
            chances = logits.softmax(dim=-1)[len(prompt) - 1 : -1].gather(1, answer[:, None])
            likelihoods.append(chances.log().mean())  # log P(y|x) = 1/m sum_t log P(y_t|x, y_<t)
        (chosen, rejected) = likelihoods
        odds_chosen, odds_rejected = (p.exp() / (1 - p.exp()) for p in (chosen, rejected))
        ratio_loss = -torch.log(torch.sigmoid(torch.log(odds_chosen / odds_rejected)))
        losses.append(-chosen + beta * ratio_loss)
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_orpo_is_the_papers_formula(renderer: Renderer, dtype: torch.dtype, within: float) -> None:
    """Loss and every gradient; in float64 both still normalise in float32, as Llama does."""
    rows = preference_rows(renderer)
    model, ours = a_model(renderer, seed=0, dtype=dtype), a_model(renderer, seed=0, dtype=dtype)
    expected = papers_orpo(model, rows, beta=0.25)
    expected.backward()
    loss, _ = trained(Scorer(ours), make_batch(rows), ORPO(beta=0.25))
    assert loss == pytest.approx(expected.item(), rel=within)
    for name, gradient in gradients(model).items():
        assert (gradients(ours)[name] - gradient).norm() <= within * gradient.norm(), name


# TRL keeps ORPO among its experiments and says so at import
@pytest.mark.filterwarnings("ignore::trl.import_utils.TRLExperimentalWarning")
def test_the_odds_ratio_of_orpo_is_trls(renderer: Renderer, tmp_path: Path) -> None:
    """TRL's likelihood term counts the prompt's tokens and pools the batch's; the paper and poise count the answer's.

    So the odds-ratio term is compared, loss and gradients, and of the other only that TRL's counts more tokens.
    """
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    model = a_model(renderer, seed=0)
    scorer = Scorer(copy.deepcopy(model))
    trainer = ORPOTrainer(
        model,
        args=ORPOConfig(**settings(tmp_path, beta=0.25, max_length=256)),
        train_dataset=Dataset.from_list(PREFERENCES),
        processing_class=renderer.prepared.tokenizer,
    )
    inputs = padded_batch(trainer)
    batch = make_batch(preference_rows(renderer))
    their_chosen, their_rejected, _, _, their_likelihood = trainer.concatenated_forward(trainer.model, inputs)
    ratio_terms, *_ = trainer.odds_ratio_loss(their_chosen, their_rejected)
    (-ratio_terms.mean()).backward()

    policy = scorer(batch)
    losses, metrics = ORPO(beta=0.25)(policy, None)
    chosen, rejected = policy.pairs(policy.mean())
    our_terms = losses + chosen  # what is left without the likelihood term, -chosen
    our_terms.mean().backward()

    assert chosen.tolist() == pytest.approx(their_chosen.tolist(), abs=WITHIN)
    assert rejected.tolist() == pytest.approx(their_rejected.tolist(), abs=WITHIN)
    assert our_terms.tolist() == pytest.approx((-ratio_terms).tolist(), rel=1e-5, abs=1e-6)
    assert_gradients(gradients(scorer.model), gradients(trainer.model))
    assert metrics["nll"].mean().item() != pytest.approx(their_likelihood.item(), rel=1e-3)


# Packed, padded and one by one ---------------------------------------------------------------------------------------


def padded_loss(model: Any, rows: Sequence[Row], objective: Objective, reference: Logps | None) -> Tensor:
    """The objective over plain transformers' logits of one right-padded batch; rows are pairs or conversations."""
    spelled = [(row, leaf) for row in rows for leaf in (range(1, 3) if len(row.segments) == 3 else [0])]
    ids = [
        torch.cat([torch.from_numpy(row.segments[index].ids).long() for index in dict.fromkeys((0, leaf))])
        for row, leaf in spelled
    ]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(each) for each in ids], batch_first=True)
    logps = model(input_ids=padded, attention_mask=mask, use_cache=False).logits.log_softmax(-1)
    values, owners, segments = [], [], 0
    for index, (row, leaf) in enumerate(spelled):
        places = torch.from_numpy(row.segments[leaf].trained).nonzero()[:, 0] + (len(row.segments[0]) if leaf else 0)
        values.append(logps[index, places - 1].gather(1, padded[index, places][:, None])[:, 0])
        segments += 2 if leaf == 1 else 1  # a prompt lies before its chosen answer
        owners += [segments - 1] * len(places)
    pairs = reference or make_batch(rows)
    policy = Logps(torch.cat(values), torch.tensor(owners), segments, pairs.chosen, pairs.rejected)
    return objective(policy, reference)[0].sum()


ON_PAIRS = [
    name
    for name in names_in("poise.objectives")
    if issubclass(cls := objective_class(name), Pairs) and not cls.whole_step
]
OBJECTIVES: dict[str, tuple[Objective, Callable[[Renderer], list[Row]]]] = {
    "sft": (SFT(), lambda renderer: conversation_rows(renderer, CONVERSATIONS)),
    **{name: (objective_class(name)(), preference_rows) for name in ON_PAIRS},
    "dpo, smoothed": (DPO(beta=0.3, label_smoothing=0.1), preference_rows),
    "dpo, shorter tails": (DPO(beta=0.3, ld_alpha=0.5), preference_rows),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_packed_padded_and_one_by_one_are_the_same_loss(renderer: Renderer, name: str) -> None:
    objective, rows_of = OBJECTIVES[name]
    rows = rows_of(renderer)
    with torch.no_grad():
        frozen = Scorer(a_model(renderer, seed=1))
        whole = frozen(make_batch(rows)) if objective.needs_reference else None
        apart = [frozen(make_batch([row])) if objective.needs_reference else None for row in rows]

    def packed(model: Any) -> Tensor:
        return objective(Scorer(model)(make_batch(rows)), whole)[0].sum()

    def alone(model: Any) -> Tensor:
        scorer = Scorer(model)
        return torch.stack([
            objective(scorer(make_batch([row])), reference)[0].sum()
            for row, reference in zip(rows, apart, strict=True)
        ]).sum()  # fmt: skip

    def unshared(model: Any) -> Tensor:
        return objective(Scorer(model, way="alone")(make_batch(rows)), whole)[0].sum()

    (loss, expected), *others = _each(
        renderer, [lambda model: padded_loss(model, rows, objective, whole), packed, alone, unshared]
    )
    for other, found in others:
        assert other == pytest.approx(loss, rel=WITHIN)
        assert_gradients(found, expected)


def _each(renderer: Renderer, ways: Sequence[Callable[[Any], Tensor]]) -> Iterator[tuple[float, Gradients]]:
    """Loss and gradients of each way on a fresh copy of the same model."""
    for way in ways:
        model = a_model(renderer, seed=0)
        loss = way(model)
        loss.backward()
        yield loss.item(), gradients(model)
