"""The evaluations that `evaluate` makes of a pipeline's models beside asking its questions: benchmarks, judges, pairs.

    - evaluate: {bench: {tasks: arc_challenge, limit: 200}, preferences: {}}

Each is a file in poise/evaluations, its keys are that command's options, and what it writes stands in
`04-evaluate/bench/dpo`, one folder for every model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from poise.errors import RecipeError
from poise.names import did_you_mean, load_named, names_in

PACKAGE = "poise.evaluations"
KINDS = tuple(name for name in names_in(PACKAGE) if name != "generate")
"""`generate` is what the stage's own keys are for."""
DECIDED = ("model", "models", "answers", "outputs", "out")
"""Options that the pipeline decides."""


@dataclass(frozen=True)
class Measured:
    """One evaluation of one model."""

    kind: str
    label: str
    folder: Path
    options: dict[str, Any]
    """What the command's function takes."""

    def run(self) -> dict[str, Any]:
        """Evaluate, or go on where it was stopped; returns the result as `--json` would print it."""
        return load_named(PACKAGE, self.kind).run(**self.options)


def measured(
    kind: str, keys: Mapping[str, Any], *, label: str, model: str, folder: Path, template: str | None
) -> Measured:
    """Resolve an evaluation of a model; RecipeError where a key is not one of the command's options.

    `template` is the chat template of the model's training, for answers of a model that has none of its own.
    """
    parameters: list[click.Parameter] = load_named(PACKAGE, kind).PARAMETERS
    known = {str(each.name): each for each in parameters if each.name not in DECIDED}
    arguments = ["--model", model, "--out", str(folder)]
    for key, value in keys.items():
        if key in DECIDED:
            raise RecipeError(f"{kind}.{key} is what the pipeline decides\n    to do:  leave it out")
        if key not in known:
            raise RecipeError(
                f"{kind} has no key {key!r}{did_you_mean(key, known)}\n    to do:  poise evaluate {kind} --help"
            )
        arguments += _argument(known[key], value)
    if template is not None and "chat_template" in known and "chat_template" not in keys and kind != "bench":
        arguments += ["--chat-template", template]
    try:
        context = click.Command(kind, params=parameters).make_context(kind, arguments)
    except click.UsageError as error:
        raise RecipeError(f"{kind}: {error.format_message()}\n    to do:  poise evaluate {kind} --help") from None
    return Measured(kind, label, folder, context.params)


def _argument(option: click.Parameter, value: Any) -> list[str]:
    """Write a value as the command line would."""
    flag = option.opts[0]
    if isinstance(option, click.Option) and option.is_flag:
        return [flag] if value else []
    return [text for each in (value if isinstance(value, list) else [value]) for text in (flag, str(each))]
