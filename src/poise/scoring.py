"""Score pairs under a model and its reference, one of them in memory at a time, an adapter's base once for both.

The reference is, in this order: the one that is named; of a run, what its recipe names, or the policy as training
began, known by the hash in its manifest; the base under an adapter. Log-probabilities are kept by the hash of the
weights, so what a training has computed of its reference is found again, and a killed evaluation goes on.
"""

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import set_seed

from poise import progress
from poise.batch.batch import make_batch
from poise.batch.kernels import choose_kernel
from poise.batch.logps import Logps
from poise.batch.render import Refusal, Renderer
from poise.batch.row import Row
from poise.batch.score import Scorer
from poise.batch.tokens import PreparedTokenizer, prepare_tokenizer
from poise.cache import cache_folder
from poise.errors import DataError, DivergenceError, ModelError
from poise.evaluate.journal import content_key
from poise.evaluate.preferences import Answer, ScoredPair
from poise.examples import Example
from poise.models.open import load_errors
from poise.recipe_sections import ModelSection
from poise.run import Drop
from poise.subject import Pairs, Subject, prompt_of
from poise.train.adapters import adapter_config, check_base, put_on, stored_sha256
from poise.train.assemble import MICRO_BATCH_TOKENS, hardware_of
from poise.train.check import check_sharing
from poise.train.data import templates_of
from poise.train.memory import collect, told_plainly
from poise.train.model import (
    Hardware,
    choose_hardware,
    grow_vocabulary,
    load_model,
    load_tokenizer,
    quiet_libraries,
)
from poise.train.reference import Reference, missing_from, reference_for, weights_sha256
from poise.train.reference_of import reference_store

if TYPE_CHECKING:
    from poise.batch.objective import Objective

PAIRS_AT_ONCE = 256
"""Rows whose stored log-probabilities are summed together."""


@dataclass(frozen=True)
class Scored:
    """What model and reference say of the pairs."""

    pairs: list[ScoredPair]
    drops: list[Drop]
    """Rows that could not be rendered."""
    policy_sha256: str
    reference_sha256: str | None
    reference: str
    """What it is, as a phrase; empty where there is none."""
    chat_template: str
    notes: list[str]


@dataclass(frozen=True)
class _Policy:
    """The model on its device, and what is known of the base under its adapter."""

    scorer: Scorer
    sha256: str
    base_sha256: str = ""
    """Of the base as loaded, where the adapter switched off is that base; empty otherwise."""
    base_stored_sha256: str = ""
    """Of the base as stored on disk."""


@dataclass(frozen=True)
class _Side:
    """Log-probabilities of one model, and what it is."""

    logps: Reference
    described: str


def is_measured(subject: Subject, reference: str | None) -> bool:
    """Whether there is a reference although no recipe says so."""
    if reference is not None:
        return True
    if subject.run is not None:
        return False
    with load_errors(subject.section.model_name_or_path):
        return adapter_config(subject.section.model_name_or_path, subject.section.model_revision) is not None


def score_pairs(
    subject: Subject,
    pairs: Pairs,
    objective: "Objective | None",
    *,
    reference: Subject | None,
    max_length: int | None,
) -> Scored:
    """Render, score the model, score the reference, and give every pair its rewards."""
    quiet_libraries()
    tokenizer = _tokenizer(subject, pairs.examples)
    kept, drops = _render(subject, tokenizer, pairs.examples, max_length)
    rows = [row for _, row in kept]
    with told_plainly():
        hardware = _hardware(subject)
        policy = _load_policy(subject, hardware, tokenizer)
        checked = _settle(policy.scorer, subject, rows, hardware)
        of_policy = _logps(policy.scorer, policy.sha256, rows, subject, hardware, "policy")
        of_reference = _reference(subject, policy, rows, hardware, tokenizer, reference, objective)
    scored = list(_scored(kept, of_policy, of_reference.logps if of_reference else None, objective))
    return Scored(
        scored,
        drops,
        policy.sha256,
        of_reference.logps.weights_sha256 if of_reference else None,
        of_reference.described if of_reference else "",
        tokenizer.template_hash,
        [*tokenizer.notes, checked, *of_policy.notes],
    )


def _tokenizer(subject: Subject, examples: Sequence[Example]) -> PreparedTokenizer:
    section = subject.section
    return prepare_tokenizer(load_tokenizer(section), section.chat_template, section.eos_token, templates_of(examples))


def _render(
    subject: Subject, tokenizer: PreparedTokenizer, examples: Sequence[Example], max_length: int | None
) -> tuple[list[tuple[Example, Row]], list[Drop]]:
    most = max_length or subject.max_length
    most_of_prompt = subject.recipe.data.max_prompt_length if subject.recipe else None
    renderer = Renderer(tokenizer, most, most_of_prompt, subject.overlong)
    kept: list[tuple[Example, Row]] = []
    drops: list[Drop] = []
    for example, row in zip(examples, renderer.rows(examples), strict=True):
        if isinstance(row, Refusal):
            drops.append(Drop("render", example.source, example.place, row.reason, example.id, row.evidence))
        else:
            kept.append((example, row))
    if not kept:
        reasons = Counter(drop.reason for drop in drops)
        told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common()) or "there are none"
        raise DataError(f"no pair is left to score ({told})\n    to do:  raise --max-length, or name other --data")
    return kept, drops


def _hardware(subject: Subject) -> Hardware:
    return hardware_of(subject.recipe) if subject.recipe else choose_hardware(subject.section, bf16=None)


def _load_policy(subject: Subject, hardware: Hardware, tokenizer: PreparedTokenizer) -> _Policy:
    """Load the model; of an adapter its base first, whose hash says what the adapter switched off is."""
    section = subject.section
    name, revision = section.model_name_or_path, section.model_revision
    with load_errors(name):
        adapter = adapter_config(name, revision)
    if adapter is None:
        loaded = load_model(section, hardware)
        new = grow_vocabulary(loaded.model, tokenizer)
        return _Policy(Scorer(loaded.model), weights_sha256(loaded.model) if new else loaded.sha256)
    base_name = str(adapter["base_model_name_or_path"])
    base_section = section.model_copy(
        update={"model_name_or_path": base_name, "model_revision": adapter.get("revision") or "main", "use_peft": True}
    )
    base = load_model(base_section, hardware)
    check_base(name, base_name, base.base_sha256)
    rows = _embeddings(base.model)
    model = put_on(base.model, name, revision, trainable=False)
    grew = _embeddings(model) > rows or bool(grow_vocabulary(model, tokenizer))
    return _Policy(Scorer(model), weights_sha256(model), "" if grew else base.sha256, base.base_sha256)


def _embeddings(model: Any) -> int:
    return model.get_input_embeddings().weight.shape[0]


def _settle(scorer: Scorer, subject: Subject, rows: Sequence[Row], hardware: Hardware) -> str:
    """Choose how it is computed, and hold that against one sequence at a time; returns a sentence."""
    scorer.eval()
    asked = subject.section.attn_implementation
    scorer.kernel, _ = choose_kernel(asked, hardware.device, hardware.products, scorer.config)
    return check_sharing(scorer, rows, hardware, subject.recipe.poise.prefix_sharing if subject.recipe else "auto")


def _logps(
    scorer: Scorer, sha256: str, rows: Sequence[Row], subject: Subject, hardware: Hardware, called: str
) -> Reference:
    """Look up and compute what a model says of the rows; DivergenceError where that is no number."""
    said = subject.recipe.poise.tokens_per_micro_batch if subject.recipe else None
    tokens = said or MICRO_BATCH_TOKENS[hardware.device.type]
    with hardware.computing():
        found = reference_for(rows, scorer, sha256, tokens=tokens, store=_store(subject), called=called)
    broken = [row for row in rows if not torch.from_numpy(found.by_row[row.digest()]).isfinite().all()]
    if broken:
        raise DivergenceError(
            f"the {called} gives log-probabilities that are not finite, first of {broken[0].id} ({broken[0].place})\n"
            f"    why:    {len(broken)} of {len(rows)} pairs have no score\n"
            "    to do:  its weights hold NaN or infinity, or overflow in this type; load other weights"
        )
    return found


def _store(subject: Subject) -> Path | None:
    return reference_store(subject.recipe) if subject.recipe else cache_folder()


def _reference(
    subject: Subject,
    policy: _Policy,
    rows: Sequence[Row],
    hardware: Hardware,
    tokenizer: PreparedTokenizer,
    named: Subject | None,
    objective: "Objective | None",
) -> _Side | None:
    if named is not None:
        return _named_reference(named, subject, policy, rows, hardware, tokenizer)
    if subject.run is not None:
        return _of_run(subject, policy, rows, hardware, tokenizer) if objective is not None else None
    if policy.base_stored_sha256:
        if not policy.base_sha256:
            raise ModelError(
                f"{subject.name} brings rows of new tokens that its base does not have\n"
                "    why:    switched off it is not the model that its training began with\n"
                "    to do:  name that with --reference"
            )
        return _switched_off(subject, policy, rows, hardware)
    return None


def _of_run(
    subject: Subject, policy: _Policy, rows: Sequence[Row], hardware: Hardware, tokenizer: PreparedTokenizer
) -> _Side:
    """Score what the run was measured from: known by its hash, so it need not be loaded where all is kept."""
    assert subject.run is not None
    assert subject.recipe is not None
    manifest, section = subject.run.manifest, subject.recipe.model
    name = section.ref_model_name_or_path or section.model_name_or_path
    wanted: str = (manifest.get("reference") or {}).get("sha256") or manifest["model"]["weights_sha256"]
    with hardware.computing():
        is_kept = not missing_from(_store(subject), rows, policy.scorer, wanted)
    if is_kept:
        return _Side(_logps(policy.scorer, wanted, rows, subject, hardware, "reference"), name)
    if policy.base_sha256 == wanted:
        return _switched_off(subject, policy, rows, hardware)
    start = section.model_copy(update={"model_name_or_path": name})
    set_seed(int(subject.recipe.training["seed"]))  # rows of new tokens are drawn
    scorer, sha256 = _load_instead(policy, start, hardware, tokenizer)
    if sha256 != wanted:
        raise ModelError(
            f"{name} is not what {subject.run.path} was measured from: its weights have the "
            f"hash {sha256[:12]}…, the run's reference {wanted[:12]}…\n"
            "    why:    rewards would be measured from another model\n"
            "    to do:  put back the weights it began with, or say --reference MODEL where another is meant"
        )
    return _Side(_logps(scorer, sha256, rows, subject, hardware, "reference"), name)


def _named_reference(
    named: Subject,
    subject: Subject,
    policy: _Policy,
    rows: Sequence[Row],
    hardware: Hardware,
    tokenizer: PreparedTokenizer,
) -> _Side:
    section = named.section
    name, revision = section.model_name_or_path, section.model_revision
    with load_errors(name):
        is_adapter = adapter_config(name, revision) is not None
    if policy.base_sha256 and not is_adapter and stored_sha256(name, revision) == policy.base_stored_sha256:
        return _switched_off(subject, policy, rows, hardware)
    scorer, sha256 = _load_instead(policy, section, hardware, tokenizer)
    return _Side(_logps(scorer, sha256, rows, subject, hardware, "reference"), named.name)


def _switched_off(subject: Subject, policy: _Policy, rows: Sequence[Row], hardware: Hardware) -> _Side:
    """Score the base under the adapter, which is in memory already."""
    adapted: Any = policy.scorer.model
    with adapted.disable_adapter():
        found = _logps(policy.scorer, policy.base_sha256, rows, subject, hardware, "reference")
    return _Side(found, "the base, the adapter switched off")


def _load_instead(
    policy: _Policy, section: ModelSection, hardware: Hardware, tokenizer: PreparedTokenizer
) -> tuple[Scorer, str]:
    """Load another model in the place of the policy, to be scored the same way; returns it with its hash."""
    del policy.scorer.model
    collect()
    loaded = load_model(section, hardware)
    new = grow_vocabulary(loaded.model, tokenizer)
    scorer = Scorer(loaded.model, way=policy.scorer.way)
    scorer.kernel, scorer.own_logits = policy.scorer.kernel, policy.scorer.own_logits
    return scorer, weights_sha256(loaded.model) if new else loaded.sha256


def _scored(
    kept: Sequence[tuple[Example, Row]], policy: Reference, reference: Reference | None, objective: "Objective | None"
) -> Generator[ScoredPair]:
    """Sum the tokens of each answer in double precision and let the objective say its rewards."""
    seen: Counter[str] = Counter()
    for start in range(0, len(kept), PAIRS_AT_ONCE):
        some = kept[start : start + PAIRS_AT_ONCE]
        batch = make_batch([row for _, row in some])
        now = _double(policy.logps(batch))
        was = _double(reference.logps(batch)) if reference else None
        metrics = objective(now, was)[1] if objective else {}
        chosen = _answers(now, was, now.chosen, metrics.get("rewards/chosen"))
        rejected = _answers(now, was, now.rejected, metrics.get("rewards/rejected"))
        examples = [example for example, row in some for _ in row.pairs]
        for example, one, other in zip(examples, chosen, rejected, strict=True):
            seen[example.id] += 1
            id = example.id if seen[example.id] == 1 else f"{example.id}#{seen[example.id]}"
            yield ScoredPair(id, example.place, content_key([prompt_of(example)]), content_key([id]), one, other)


def _answers(now: Logps, was: Logps | None, segments: Tensor, rewards: Tensor | None) -> list[Answer]:
    """Gather one side of the pairs."""
    count = len(segments)
    before: Sequence[float | None] = [None] * count if was is None else was.sum()[segments].tolist()
    rewarded: Sequence[float | None] = [None] * count if rewards is None else rewards.tolist()
    sides = (now.length()[segments].long().tolist(), now.sum()[segments].tolist(), before, rewarded)
    return [Answer(*each) for each in zip(*sides, strict=True)]


def _double(logps: Logps) -> Logps:
    return replace(logps, values=logps.values.double())


def tell_left_out(drops: Sequence[Drop], rows_in: int) -> str:
    """Say how many rows were left out and why; empty where none was."""
    if not drops:
        return ""
    reasons = Counter(drop.reason for drop in drops)
    told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    sentence = f"{len(drops):,} of {rows_in:,} rows are left out: {told}"
    progress.say(f"note: {sentence}")
    return sentence
