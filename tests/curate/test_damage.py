"""Damage: the smallest text of each kind, and the nearest sound one."""

import pytest

from poise.curate.damage import damage_in
from poise.curate.reason import Reason


@pytest.mark.parametrize(
    ("text", "phrase", "evidence"),
    [
        ("caf\ufffd", "replacement character", "caf\ufffd"),
        ("cafÃ©", "mojibake", "Ã©"),
        ("donâ€™t", "mojibake", "â€™"),
        ("20\u00a0Â°C", "mojibake", "Â°"),
        ("Ã–sterreich", "mojibake", "Ã–"),
        ("ðŸ˜€", "mojibake", "ðŸ˜€"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "mojibake", "ÐŸÑ€"),
        ("a\x07b", "control character", "U+0007"),
        ("a\x9fb", "control character", "U+009F"),
        ("Tom &amp; Jerry", "HTML entity", "&amp;"),
        ("It&#39;s", "HTML entity", "&#39;"),
    ],
)
def test_damage_is_told_by_its_kind(text: str, phrase: str, evidence: str) -> None:
    assert damage_in(text) == Reason(phrase, evidence)


@pytest.mark.parametrize(
    "text",
    [
        "café, naïve, “Ða” — 20\u00a0°C",
        "AMANHÃ” e NÃO",
        "â, ê… î”",
        "tab\tline\r\npage\x0c",
        "Tom & Jerry; AT&T;",
        "Write `&amp;` for it.",
        "```html\nTom &amp; Jerry\n```",
        "<p>Tom &amp; Jerry</p>",
        "👍 🏳️‍🌈",
    ],
)
def test_sound_text_is_not_damaged(text: str) -> None:
    assert damage_in(text) is None


@pytest.mark.parametrize("word", ["naïve", "don’t", "“so”", "größer", "😀", "привет", "10 €", "½", "→"])
@pytest.mark.parametrize("wrong", ["cp1252", "latin-1"])
def test_utf_8_that_was_read_wrongly_is_found(word: str, wrong: str) -> None:
    read = "".join(decoded(byte, wrong) for byte in word.encode())
    found = damage_in(f"{read} end")
    assert found is not None
    assert found.phrase == "mojibake"
    assert damage_in(f"{word} end") is None


def decoded(byte: int, encoding: str) -> str:
    try:
        return bytes([byte]).decode(encoding)
    except UnicodeDecodeError:
        return chr(byte)
