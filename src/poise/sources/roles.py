"""The names that datasets give to the speakers of a conversation, and the four roles they mean."""

from poise.examples import Role
from poise.names import did_you_mean
from poise.sources.refusal import RowError

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "tool_response": "tool",
    "function": "tool",
    "function_response": "tool",
    "observation": "tool",
}


def role_of(name: str, where: str) -> Role:
    """Return the role that `name` means, in any case of letters; `where` is `column[index].key`."""
    role = ROLES.get(name.lower())
    if role is None:
        raise RowError(
            "unknown role",
            f" {where}",
            f"unknown role {name[:60]!r}{did_you_mean(name.lower(), ROLES)}",
            "the role decides which turns are trained, so it is not guessed",
            f"use one of {', '.join(ROLES)}",
        )
    return role
