"""The page, as a browser would build it."""

from html.parser import HTMLParser

import pytest

from poise.look.look import look
from poise.look.told import told

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><script>alert(1)</script>",
    "{{ 7 * 7 }}",
    "\x1b[2J\u202e",
)


class Page(HTMLParser):
    """What a browser would build: element names, attributes, text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_long_texts_are_folded_and_cut(curated, chat) -> None:
    folder = curated({("conversation", "train"): [chat("a:1", "q" * 300, "r" * 5000)]})
    facts = look(folder)
    page = (folder / "look.html").read_text()
    assert f'<summary dir="auto">{"r" * 200} …</summary>' in page
    assert facts["examples"]["a"][0]["turns"][1]["text"] == "r" * 4000 + " … 1,000 more characters"
    assert "r" * 4001 not in page


def test_many_turns_are_folded(curated, chat) -> None:
    folder = curated({("conversation", "train"): [chat("a:1", *"123456"), chat("b:1", *"12345678")]})
    look(folder)
    page = (folder / "look.html").read_text()
    assert page.count("more turns</summary>") == 1 and "<summary>4 more turns</summary>" in page


def test_duplicates_are_told_apart_by_their_questions(curated, chat, turns, store) -> None:
    drops = [
        {"id": "a:2", "other": "a:1", "stage": "exact", "reason": "copy", "evidence": "same"},
        {"id": "a:1", "stage": "tokens", "reason": "too long"},
    ]
    folder = curated({("conversation", "train"): [chat("a:3", "q", "r")]}, drops)
    store(folder, {"a:1": {"messages": turns("ask this", "r", system="Be kind.")}})
    look(folder)
    page = (folder / "look.html").read_text()
    assert '<summary dir="auto">ask this</summary>' in page
    assert "a:1 · kept · dropped later by tokens: too long" in page
    assert "a:2 · exact: copy (same)" in page


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_is_shown_and_never_run(curated, chat, turns, store, payload: str) -> None:
    row_id = f"{payload}:1"
    rows = {("conversation", "train"): [chat(row_id, payload, payload * 50, system=payload)]}
    drop = {"id": f"{payload}:2", "other": row_id, "stage": payload, "reason": payload, "evidence": payload}
    folder = curated(rows, [drop])
    store(folder, {row_id: {"messages": turns(payload, payload)}})
    facts = look(folder)
    page = (folder / "look.html").read_text()
    built = Page(page)
    names = {name for name, _ in built.elements}
    assert not names & {"script", "img", "iframe", "object", "embed", "link", "a", "form", "base", "use", "image"}
    assert not any(name.startswith("on") for _, attributes in built.elements for name in attributes)
    assert "49" not in built.text.split() and "http" not in page.replace("http-equiv", "")
    assert payload in built.text or not payload.isprintable()
    for text in (told(facts), page):
        assert all(character.isprintable() or character == "\n" for character in text)
