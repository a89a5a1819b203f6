"""Read and render a recipe's data: everything that is known before a model is loaded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from poise.batch.render import Renderer
from poise.batch.row import Row
from poise.batch.tokens import PreparedTokenizer, prepare_tokenizer
from poise.errors import RunError
from poise.recipe import Recipe
from poise.run import Drop
from poise.train.data import Loaded, Rendered, load_examples, render, sample_of, templates_of
from poise.train.model import load_tokenizer


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before the model is loaded."""

    loaded: Loaded
    rendered: Rendered
    renderer: Renderer
    tokenizer: PreparedTokenizer

    @property
    def drops(self) -> list[Drop]:
        """Every row that is not trained on."""
        return [*self.loaded.drops, *self.rendered.drops]

    @property
    def scale(self) -> float:
        """Examples to train on for every one that was rendered: above 1 where only a sample was."""
        return max(1.0, len(self.loaded.train) / max(1, self.rendered.tried))

    def optimizer_steps(self, recipe: Recipe, processes: int = 1) -> int:
        """Updates the run will make."""
        training = recipe.training
        if training.get("max_steps", -1) > 0:
            return int(training["max_steps"])
        rows = -(-round(len(self.rendered.train) * self.scale) // processes)
        return math.ceil(-(-rows // rows_per_step(recipe)) * float(training["num_train_epochs"]))


def rows_per_step(recipe: Recipe) -> int:
    """Rows of one optimizer step on one process."""
    return int(recipe.training["per_device_train_batch_size"] * recipe.training["gradient_accumulation_steps"])


def prepare(recipe: Recipe, *, at_most: int | None = None) -> Prepared:
    """Read and render the data; every complaint about it comes from here, before a model is loaded.

    `at_most` rows of each side are rendered, a sample by the mix's seed; all are read.
    """
    loaded = load_examples(recipe.data, recipe.objective.rows, recipe.verb)
    renderer = renderer_of(recipe, templates_of([*loaded.train, *loaded.held_out]))
    some = loaded if at_most is None else sample_of(loaded, at_most, recipe.data.mix_seed)
    rendered = render(some, renderer, recipe.data, recipe.objective, recipe.verb)
    return Prepared(loaded, rendered, renderer, renderer.prepared)


def renderer_of(recipe: Recipe, templates: Sequence[str]) -> Renderer:
    """Make what renders a recipe's Examples, some of which ask for these templates beside that of the run."""
    model, data = recipe.model, recipe.data
    tokenizer = prepare_tokenizer(load_tokenizer(model), model.chat_template, model.eos_token, templates)
    return Renderer(tokenizer, data.max_length, data.max_prompt_length, data.overlong)


def row_at(prepared: Prepared, number: int) -> Row:
    """Return a rendered row by its place in training order, from 0."""
    rows: Sequence[Row] = prepared.rendered.train
    if not 0 <= number < len(rows):
        raise RunError(f"--row {number}: this recipe has rows 0 to {len(rows) - 1}")
    return rows[number]
