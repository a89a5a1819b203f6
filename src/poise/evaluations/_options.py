"""Options that several evaluations share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from poise.errors import RecipeError

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
AT_LEAST_ONE = click.IntRange(min=1)


def option(*names: str, **settings: Any) -> click.Option:
    """Return an option that shows its default."""
    return click.Option(names, show_default=settings.get("default") is not None, **settings)


def answering(*, max_new_tokens: int) -> list[click.Parameter]:
    """Return how answers are made."""
    return [
        option("--chat-template", help="For a model without one: a name (chatml, zephyr, …) or a .jinja file."),
        option("--max-new-tokens", type=AT_LEAST_ONE, default=max_new_tokens, help="The longest answer."),
        option("--batch-size", type=AT_LEAST_ONE, default=32, help="Answers made together in this process."),
    ]


def asking() -> list[click.Parameter]:
    """Return how servers are asked."""
    return [
        option("--concurrency", type=AT_LEAST_ONE, default=8, help="Requests on their way together."),
        option("--attempts", type=AT_LEAST_ONE, default=6, help="How often a busy server is asked, ever more slowly."),
    ]


def judging() -> list[click.Parameter]:
    """Return who judges."""
    return [
        option("--judge", required=True, metavar="URL#NAME", help="Any OpenAI-compatible server and its model."),
        *asking(),
        option("--out", type=FOLDER, help="The folder to write; evaluations/KIND/MODEL by default."),
    ]


def exactly_one(given: dict[str, Any], what: str) -> None:
    """Refuse none and several of some options."""
    named = [name for name, value in given.items() if value]
    if len(named) != 1:
        found = f"got {' and '.join(named)}" if named else "got neither"
        raise RecipeError(f"{what} come from {' or '.join(given)}, {found}\n    to do:  give exactly one of them")


def notes_on(answers: Sequence[tuple[str, bool]]) -> list[str]:
    """Say what is wrong with answers, whatever they were asked."""
    from poise.evaluate.flags import counted, repeated_answers

    found = [f"{count} {flag}" for flag, count in counted(answers).items() if count]
    notes = [f"of {len(answers)} answers {', '.join(found)}"] if found else []
    same = repeated_answers([text for text, _ in answers])
    if same > max(2, len(answers) // 10):
        notes.append(f"{same} of {len(answers)} answers equal another one; such answers can deceive a judge")
    return notes
