"""Cinematika, its plain text."""

import pytest

from poise.examples import Document

ROW = {"scene_by_scene": "[scenario] A bar."}


def plain(*texts: str) -> list[dict[str, object]]:
    return [{"plain_scenes": text, "index": index} for index, text in enumerate(texts)]


def test_a_scene_by_scene_row_is_a_document(read) -> None:
    assert read("cinematika_scenes", [ROW]).examples == [Document("[scenario] A bar.", lineage=("rows:1",))]


@pytest.mark.parametrize(
    ("texts", "packs"),
    [
        (["a b", "c d", "e"], [("a b\n\nc d", "12"), ("e", "3")]),
        (["a b c", "d e", "f"], [("a b c", "1"), ("d e\n\nf", "23")]),
        (["a", "b c d e f g", "h"], [("a", "1"), ("b c d e f g", "2"), ("h", "3")]),
        (["a b c d"], [("a b c d", "1")]),
    ],
    ids=["full", "would overshoot", "too long alone", "exact"],
)
def test_neighbouring_scenes_are_packed_up_to_a_number_of_words(read, texts, packs) -> None:
    found = read("cinematika_scenes", plain(*texts), max_words=4)
    assert [(each.text, each.lineage) for each in found.examples] == [
        (text, tuple(f"rows:{row}" for row in rows)) for text, rows in packs
    ]


def test_plain_scenes_are_packed_in_the_order_of_their_index(read) -> None:
    first, second = plain("a", "b")
    found = read("cinematika_scenes", [second, ROW, first])
    assert [(each.text, each.lineage) for each in found.examples] == [
        ("[scenario] A bar.", ("rows:2",)),
        ("a\n\nb", ("rows:3", "rows:1")),
    ]


@pytest.mark.parametrize(
    ("row", "column"),
    [({"scene_by_scene": " "}, "scene_by_scene"), ({"plain_scenes": "\n", "index": 0}, "plain_scenes")],
)
def test_a_row_without_text_is_left_out(read, row, column) -> None:
    found = read("cinematika_scenes", [row])
    assert not found.examples
    assert [(left.place, left.reason, left.evidence) for left in found.left] == [("rows:1", "empty text", column)]


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"input": "i", "output": "o"}, "missing column", " scene_by_scene"),
        ({"plain_scenes": "INT. BAR"}, "missing column", " index"),
        ({"scene_by_scene": None}, "null value", " scene_by_scene"),
        ({"plain_scenes": None, "index": 1}, "null value", " plain_scenes"),
        ({"plain_scenes": "INT. BAR", "index": "1"}, "wrong type", " index"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("cinematika_scenes", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
