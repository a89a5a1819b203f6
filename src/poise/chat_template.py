"""Render chat templates, which come from strangers, within limits: what is rendered is what transformers renders."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from jinja2 import nodes
from jinja2.exceptions import SecurityError

from poise.errors import ModelError
from poise.template_sandbox import SECONDS, Meter, Sandbox, metered, metering

SOURCE, FREE, FACTOR = 400_000, 4_000_000, 200
"""Characters of a template; characters that one rendering may make in all, and as many times those of its messages."""


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    generation: bool = False,
    tokens: Mapping[str, Any] | None = None,
) -> str:
    """Return what a chat template makes of messages; `tokens` are special tokens by name.

    Raises:
        ModelError: the template reaches for Python, or takes more time or memory than is given.
        TemplateError, TypeError, ValueError, KeyError, AttributeError: it does not take these messages.
    """
    given = sum(len(str(value)) for message in messages for value in message.values())
    try:
        with metering(Meter(FREE + FACTOR * given)):
            return _compiled(template).render(
                messages=list(messages), tools=None, documents=None, add_generation_prompt=generation, **(tokens or {})
            )
    except (SecurityError, RecursionError, MemoryError, OverflowError) as error:
        raise ModelError(
            f"the chat template was stopped: {error or type(error).__name__}\n"
            f"    why:    a template comes from a stranger; it gets {SECONDS:g} s of computing, text of about its "
            "messages' length, and no way to Python\n"
            "    to do:  if the rest of the model is trusted, name a template of poise: chat_template=zephyr"
        ) from error


@lru_cache(maxsize=16)
def _compiled(template: str) -> Any:
    if len(template) > SOURCE:
        raise SecurityError(f"it has {len(template):,} characters, more than {SOURCE:,}")
    environment = Sandbox()
    return environment.from_string(cast(nodes.Template, metered(environment.parse(template))))
