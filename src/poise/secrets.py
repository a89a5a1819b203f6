"""Keep secrets out of what is written down or sent away: tokens by their form, by their key, or by the environment."""

import os
import re
from collections.abc import Mapping
from typing import Any, cast

HIDDEN = "(a secret, not shown)"
TOKEN = re.compile(r"\b(?:hf|sk|ghp|gho|ghs|github_pat|glpat|xox[abp])[-_][A-Za-z0-9_-]{6,}")
"""Tokens as the Hub, OpenAI, GitHub, GitLab and Slack write them."""
LOGIN = re.compile(r"(:/{1,2})[^/\s:@]+:[^/\s@]+(?=@)")
"""`user:password` in a URL, or in what became of one as a path."""
NAMED = re.compile(r"(?:^|_)(?:secret|password|passwd|api_?key|(?:hub|access|auth|bearer)_?token)$", re.IGNORECASE)
"""Keys whose value is a secret; `eos_token` and `max_new_tokens` are none."""
SURE = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bglpat-[\w-]{16,}|\bxox[abprs]-[\w-]{10,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----",
    re.ASCII,
)
"""Tokens so long that no name or word of a vocabulary is one."""
IN_ENVIRONMENT = re.compile(r"(?:TOKEN|SECRET|PASSWORD|API_?KEY)$")
SHORTEST = 8
"""Characters of a secret in the environment; a shorter value stands in too many words."""


def redacted(value: Any, key: str = "") -> Any:
    """Return a value with every secret in it replaced, in mappings and lists too."""
    if isinstance(value, Mapping):
        return {name: redacted(part, str(name)) for name, part in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [redacted(part, key) for part in cast("list[Any]", value)]
    if isinstance(value, str) and value:
        return HIDDEN if NAMED.search(key) else _without_secrets(value)
    return value


def hidden(text: str) -> str:
    """Return a text that is written down as it comes, a log or a command, without what is surely a secret."""
    for secret in known_secrets():
        text = text.replace(secret, HIDDEN)
    return LOGIN.sub(rf"\1{HIDDEN}", SURE.sub(HIDDEN, text))


def hidden_within(value: Any, key: str = "") -> Any:
    """Do the same in mappings and lists, and for the values of keys that are named for secrets."""
    if isinstance(value, Mapping):
        return {name: hidden_within(part, str(name)) for name, part in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [hidden_within(part, key) for part in cast("list[Any]", value)]
    if isinstance(value, str) and value:
        return HIDDEN if NAMED.search(key) else hidden(value)
    return value


def _without_secrets(text: str) -> str:
    for secret in known_secrets():
        text = text.replace(secret, HIDDEN)
    return LOGIN.sub(rf"\1{HIDDEN}", TOKEN.sub(HIDDEN, text))


def known_secrets() -> list[str]:
    """List the values of environment variables that are secrets by their name."""
    return [value for name, value in os.environ.items() if IN_ENVIRONMENT.search(name) and len(value) >= SHORTEST]
