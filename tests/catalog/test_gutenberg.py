"""Project Gutenberg."""

import pytest

from poise.examples import Document

ROW = {"text": "CHAPTER I\n\nOne."}

BOOK = """The Project Gutenberg eBook of A Tale. Read the licence.

*** START OF THE PROJECT GUTENBERG EBOOK A LONG
TALE ***

A LONG TALE

CHAPTER I. Dawn

CHAPTER II. Dusk

Preface of the author.

BOOK I

  CHAPTER I.
  Dawn

The sun rose
over the sea.



It shone.

CHAPTER II.
Dusk

It set.

End of the Project Gutenberg EBook of A Long Tale

*** END OF THE PROJECT GUTENBERG EBOOK A LONG TALE ***

CHAPTER I

The licence at length.
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_book_becomes_its_chapters_without_licence_preface_and_contents(read, newline) -> None:
    found = read("gutenberg", [{"text": BOOK.replace("\n", newline), "title": "A Long Tale"}])
    assert found.examples == [
        Document("CHAPTER I.\n  Dawn\n\nThe sun rose\nover the sea.\n\nIt shone.", lineage=("rows:1",)),
        Document("CHAPTER II.\nDusk\n\nIt set.", lineage=("rows:1",)),
    ]
    assert not found.left


def test_books_are_chosen_by_their_numbers_and_one_that_is_not_there_is_told(read, capsys) -> None:
    one = "CHAPTER I\n\nOne."
    rows = [
        {"id": "11-0", "text": one},
        {"id": "12", "text": one},
        {"text": f"A Tale [EBook #98]\n\n{one}"},
        {"text": one},
    ]
    found = read("gutenberg", rows, books=[11, 98, 203])
    assert [example.lineage for example in found.examples] == [("rows:1",), ("rows:3",)]
    assert [(left.place, left.reason) for left in found.left] == [
        ("rows:2", "another book"),
        ("rows:4", "no book number"),
    ]
    assert "not among the rows: books 203\n" in capsys.readouterr().err


def test_a_text_without_marks_is_cut_from_end_to_end(read) -> None:
    found = read("gutenberg", [{"text": "CHAPTER I\n\nOne.\n\nCHAPTER II\n\nTwo."}])
    assert [each.text for each in found.examples] == ["CHAPTER I\n\nOne.", "CHAPTER II\n\nTwo."]


@pytest.mark.parametrize(
    "heading",
    [
        "CHAPTER XXIII.",
        "Chapter 2",
        "Letter 4",
        "BOOK IV: The End",
        "Chapter 12 The Return",
        "CHAPTER ii.—Of “Dogs”",
        "CHAPTER II\nIN WHICH TWO LINES\nARE A TITLE",
    ],
)
def test_a_heading_opens_a_chapter(read, heading) -> None:
    found = read("gutenberg", [{"text": f"CHAPTER I\n\nOne.\n\n{heading}\n\nTwo."}])
    assert [each.text for each in found.examples] == ["CHAPTER I\n\nOne.", f"{heading}\n\nTwo."]


@pytest.mark.parametrize(
    "prose",
    [
        "Chapter 3 shall be short.",
        "Letter I had none.",
        "CHAPTER Civil",
        "chapter 2",
        "See CHAPTER II.",
        "CHAPTER II.\nCHAPTER III.",
        "BOOK II. (Octavo).\nThese\nembrace\nthe\nwhales.",
    ],
)
def test_prose_that_names_a_chapter_opens_none(read, prose) -> None:
    text = f"CHAPTER I\n\nOne.\n\n{prose}\n\nTwo."
    assert [each.text for each in read("gutenberg", [{"text": text}]).examples] == [text]


@pytest.mark.parametrize("text", ["", "A poem without chapters.", "CHAPTER I\n\nCHAPTER II"])
def test_a_book_without_chapters_is_left_out(read, text) -> None:
    found = read("gutenberg", [{"text": text}, ROW])
    assert [(left.place, left.reason, left.evidence) for left in found.left] == [("rows:1", "no chapters", "text")]
    assert [each.lineage for each in found.examples] == [("rows:2",)]


@pytest.mark.parametrize(
    ("row", "reason", "where"),
    [
        ({"TEXT": "CHAPTER I\n\nOne."}, "missing column", " text"),
        ({"text": None}, "null value", " text"),
        ({"text": ["CHAPTER I"]}, "wrong type", " text"),
    ],
)
def test_a_row_of_another_schema_is_named(read, row, reason, where) -> None:
    found = read("gutenberg", [ROW, row])
    assert len(found.examples) == 1
    assert [(bad.place, bad.error.reason, bad.error.where) for bad in found.bad] == [("rows:2", reason, where)]
