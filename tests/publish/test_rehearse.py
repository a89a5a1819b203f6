"""Faults planted in an export are seen by its rehearsal."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from poise.batch.render import Renderer
from poise.batch.tokens import prepare_tokenizer
from poise.models.open import open_causal_lm, open_tokenizer
from poise.publish.material import Material, material_of
from poise.publish.rehearsal import Rehearsal, Tolerance
from poise.publish.rehearse import Seen, compared, look, look_again, perplexity
from poise.publish.sides import InTransformers


@dataclass
class Rehearsing:
    """A model that has been looked at."""

    model: Any
    tokenizer: Any
    stops: tuple[int, ...]
    material: Material
    before: Seen

    def again(self, side: InTransformers) -> Rehearsal:
        """Let the export do the same."""
        after = look_again(side, self.material, self.stops, self.before)
        facts = {"format": "int8", "model": "it", "files": {}, "notes": []}
        return compared(self.before, after, self.material, self.tokenizer, self.stops, Tolerance(0.98, 0.01), facts)


@pytest.fixture(scope="module")
def rehearsing(taught: Path) -> Rehearsing:
    model, tokenizer = open_causal_lm(str(taught / "model")), open_tokenizer(str(taught / "model"))
    stops = tuple(model.generation_config.eos_token_id)
    renderer = Renderer(prepare_tokenizer(copy.deepcopy(tokenizer), None))
    material = material_of(taught, renderer, [])
    return Rehearsing(
        model, tokenizer, stops, material, look(InTransformers(model, tokenizer, stops, stops), material, stops)
    )


def test_the_same_model_is_without_fault(rehearsing: Rehearsing) -> None:
    side = InTransformers(rehearsing.model, rehearsing.tokenizer, rehearsing.stops, rehearsing.stops)
    seen = rehearsing.again(side)
    assert seen.faults() == []
    assert (seen.agreement, seen.same_answers, seen.same_templates) == (1.0, 20, 20)
    assert seen.perplexity[0] == seen.perplexity[1]


def test_another_template_is_seen(rehearsing: Rehearsing) -> None:
    other = copy.deepcopy(rehearsing.tokenizer)
    other.chat_template = other.chat_template.replace("<|im_start|>assistant", "<|im_start|>assistant:")
    seen = rehearsing.again(InTransformers(rehearsing.model, other, rehearsing.stops, rehearsing.stops))
    assert seen.faults() == ["20 of 20 prompts are other tokens for what runs the exported files"]
    assert seen.same_answers == 20  # it was fed the same tokens all the same


def test_a_stop_token_that_is_missing_is_seen(rehearsing: Rehearsing) -> None:
    first, second = rehearsing.stops
    seen = rehearsing.again(InTransformers(rehearsing.model, rehearsing.tokenizer, (second,), (second,)))
    lost = rehearsing.tokenizer.convert_ids_to_tokens(first)
    assert f"the exported files do not stop at {lost}" in seen.faults()
    assert seen.answers[0]["before"] != seen.answers[0]["after"]  # it talks on


def test_weights_that_were_put_in_another_order_are_seen(rehearsing: Rehearsing) -> None:
    broken = copy.deepcopy(rehearsing.model)
    with torch.no_grad():
        rows = broken.model.layers[1].mlp.down_proj.weight
        rows.copy_(rows.flip(0))
    seen = rehearsing.again(InTransformers(broken, rehearsing.tokenizer, rehearsing.stops, rehearsing.stops))
    assert any(fault.startswith("the next token agrees at") for fault in seen.faults())
    assert any(fault.startswith("perplexity grows") for fault in seen.faults())


def test_perplexity_is_the_branching_of_what_was_counted() -> None:
    half = float(torch.tensor(0.5).log())
    assert perplexity([half, half]) == pytest.approx(2.0)
    assert perplexity([0.0]) == 1.0
    assert perplexity([]) != perplexity([])  # not a number
