"""Keep secrets out of what is written down or sent away: tokens by their form, by their key, or by the environment."""

import os
import re
from collections.abc import Mapping
from typing import Any, cast

HIDDEN = "(a secret, not shown)"
TOKEN = re.compile(r"\b(?:hf|sk|ghp|gho|ghs|github_pat|glpat|xox[abp])[-_][A-Za-z0-9_-]{6,}")
"""Tokens as the Hub, OpenAI, GitHub, GitLab and Slack write them."""
LOGIN = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
"""`user:password` in a URL."""
NAMED = re.compile(r"(?:^|_)(?:secret|password|passwd|api_?key|(?:hub|access|auth|bearer)_?token)$", re.IGNORECASE)
"""Keys whose value is a secret; `eos_token` and `max_new_tokens` are none."""
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


def _without_secrets(text: str) -> str:
    for secret in _known():
        text = text.replace(secret, HIDDEN)
    return LOGIN.sub(HIDDEN, TOKEN.sub(HIDDEN, text))


def _known() -> list[str]:
    """List the values of environment variables that are secrets by their name."""
    return [value for name, value in os.environ.items() if IN_ENVIRONMENT.search(name) and len(value) >= SHORTEST]
