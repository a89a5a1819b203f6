"""What counts as a secret, and what does not."""

import pytest

from poise.secrets import HIDDEN, redacted


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("hf_abcdefghijk", HIDDEN),
        ("run of sk-abc123def with ghp_a1b2c3d4", f"run of {HIDDEN} with {HIDDEN}"),
        ("https://me:open-sesame@host/x", f"https://{HIDDEN}@host/x"),
        ({"hub_token": "x", "api_key": "y", "nested": {"password": "z"}},
         {"hub_token": HIDDEN, "api_key": HIDDEN, "nested": {"password": HIDDEN}}),
        ([1, None, "hf_abcdefghijk"], [1, None, HIDDEN]),
    ],
)  # fmt: skip
def test_a_secret_is_hidden_wherever_it_stands(value: object, shown: object) -> None:
    assert redacted(value) == shown


def test_tokens_of_a_text_are_no_secrets() -> None:
    plain = {"eos_token": "<|im_end|>", "eos_token_id": 2, "max_new_tokens": 64, "hub_token": None, "skip": "hf_x"}
    assert redacted(plain) == plain


def test_a_secret_of_the_environment_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("PLAIN_KEYBOARD", "qwertyuiop")
    assert redacted("key 0123456789abcdef on qwertyuiop") == f"key {HIDDEN} on qwertyuiop"
