"""A trained model, or the one it came from, loaded as its recipe says and ready to be asked."""

from typing import Any

from poise.batch.render import Renderer
from poise.batch.tokens import prepare_tokenizer
from poise.recipe import Recipe
from poise.train.assemble import hardware_of
from poise.train.model import grow_vocabulary, load_model, load_tokenizer, quiet_libraries


def load_answering(recipe: Recipe, name: str) -> tuple[Any, Renderer]:
    """Return (model, renderer) of the model called `name`: what the recipe starts from, or what it made."""
    quiet_libraries()
    revision = recipe.model.model_revision if name == recipe.model.model_name_or_path else "main"
    section = recipe.model.model_copy(update={"model_name_or_path": name, "model_revision": revision})
    prepared = prepare_tokenizer(load_tokenizer(section), section.chat_template, section.eos_token)
    model = load_model(section, hardware_of(recipe)).model
    grow_vocabulary(model, prepared)
    return model, Renderer(prepared, recipe.data.max_length, recipe.data.max_prompt_length, recipe.data.overlong)
