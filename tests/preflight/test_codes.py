"""What every code says, and that every check stands by one."""

import re
from pathlib import Path

import pytest

import poise.preflight
from poise.codes import CODES, explain, refuse_unknown, told
from poise.errors import RecipeError

SOURCES = [
    *Path(poise.preflight.__file__).parent.glob("*.py"),
    *Path(poise.preflight.__file__).parents[1].rglob("*.py"),
]


def test_every_code_says_what_why_what_to_do_and_from_where() -> None:
    for code in CODES.values():
        assert re.fullmatch(r"[EWN]\d{3}", code.code)
        assert all((code.title, code.why, code.remedy, code.source))
        assert not code.title.endswith(".")


def test_every_code_is_raised_somewhere() -> None:
    """By its name, or by its number where the degree decides the letter."""
    text = "\n".join(path.read_text() for path in SOURCES if path.name != "codes.py")
    for code in CODES:
        assert f'"{code}"' in text or re.search(rf"\b{code[1:]}\b", text), f"nothing raises {code}"


def test_a_code_is_explained_whatever_its_case() -> None:
    assert explain("w101") is CODES["W101"]
    assert "sets it aside" in told(CODES["W101"])
    assert "cannot be ignored" in told(CODES["E307"])
    assert "aside" not in told(CODES["N104"])
    with pytest.raises(RecipeError, match="did you mean"):
        explain("W1O1")


def test_an_error_of_soundness_cannot_be_ignored() -> None:
    assert refuse_unknown(["E101", "W405"]) == ["E101", "W405"]
    with pytest.raises(ValueError, match=r"E307 .* cannot be ignored"):
        refuse_unknown(["E307"])
    with pytest.raises(ValueError, match="no code 'E999'"):
        refuse_unknown(["E999"])
