"""In which form a row wants to be trained, by two columns that `poise curate` writes and any other file may have.

    {"messages": […], "chat_template": "chatml", "trained_answers": "last"}

A row in a form of its own that were read without it would be trained in another one and nobody would know, so a value
that is not understood is refused, and so is what TRL's rows give their template beside the messages:

    {"messages": […], "chat_template_kwargs": {"enable_thinking": false}, "tools": [{"type": "function", …}]}
"""

from dataclasses import replace
from typing import Any, get_args

from poise.batch.tokens import shipped_templates
from poise.examples import OWN_TEMPLATE, Conversation, Document, Example, Trained
from poise.names import did_you_mean
from poise.sources.refusal import RowError
from poise.sources.turns import Columns

TEMPLATE, TRAINED = "chat_template", "trained_answers"
BESIDE = ("chat_template_kwargs", "tools")
"""What a template reads beside the messages."""
NOTHING = (None, "", [], {})


def in_its_form(example: Example, columns: Columns) -> Example:
    """Return the Example with the template and the trained answers that its row names; a document has neither."""
    if isinstance(example, Document):
        return example
    _refuse_beside(columns)
    template = _one_of(columns, TEMPLATE, (*shipped_templates(), OWN_TEMPLATE))
    if template is not None:
        example = replace(example, template=template)
    if not isinstance(example, Conversation):
        return example
    trained: Any = _one_of(columns, TRAINED, get_args(Trained))
    return example if trained is None else replace(example, trained=trained)


def _refuse_beside(columns: Columns) -> None:
    for name in BESIDE:
        value = columns.get(name)
        said: Any = (
            {key: each for key, each in value.items() if each not in NOTHING} if isinstance(value, dict) else value
        )
        if said not in (*NOTHING, "[]", "{}", "null"):
            raise RowError(
                f"{name} for the template",
                f" {name}",
                f"gives the chat template {str(said)[:60]}",
                "a template is rendered from the messages alone, so the row would be trained in another form",
                "write into the messages what they say, then leave this column out of `columns`",
            )


def _one_of(columns: Columns, name: str, known: tuple[str, ...]) -> str | None:
    value = columns.get(name)
    if value is None or value in known:
        return value
    raise RowError(
        f"unknown {name}",
        f" {name}",
        f"{str(value)[:60]!r} is none of {', '.join(known)}{did_you_mean(str(value)[:60], known)}",
        "the row would be trained in another form than it asks for",
        "correct it, or leave this column out of `columns` if it means something else",
    )
