r"""Project Gutenberg: books out of copyright in the US, cut into their chapters.

https://huggingface.co/datasets/manu/project_gutenberg

    {"id": "11-0", "text": "… *** START OF THE PROJECT GUTENBERG EBOOK … ***\r\n … CHAPTER I.\r\nDown the Rabbit …"}

Rows of one's own need only `text`: the .txt file of a book as https://www.gutenberg.org has it, licence and all. A
book's number is the first part of its `id`, else what its text says: `[EBook #11]`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from poise import progress
from poise.examples import Document
from poise.sources.dataset import About, Left, SourceRow

START = re.compile(r"\*\*\* ?START OF[^*]*\*\*\*")
END = re.compile(r"^(?:\*\*\* ?END OF|End of (?:the |this )?Project Gutenberg)", re.MULTILINE)
NUMBER = re.compile(r"\[e-?(?:book|text) #\s*(\d+)\]", re.IGNORECASE)
BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")
HEADING = re.compile(
    r"\s*(?:CHAPTER|Chapter|BOOK|Book|LETTER|Letter)\s+(?:[IVXLCDM]+|[ivxlcdm]+|\d+)"
    r"(?:\s*[.,:)\]—–-].*|\s+[^a-z]*[A-Z].*)?\s*"
)
HEADING_LINES = 4
"""A heading has at most so many, its title with them; a longer paragraph is prose, or a table of contents."""

ABOUT = About(
    hub="manu/project_gutenberg",
    split="en",
    columns={"text": str},
    licence="public domain in the US",
    confidence=3,
    risk="Outside the US some of the books are still in copyright.",
)


def read_all(rows: Iterable[SourceRow], *, books: Sequence[int] | None = None) -> Iterator[Document | Left]:
    """Make a document of every chapter of all books or of those with these numbers, without licence and contents."""
    missing = set(books or ())
    for row in rows:
        number = _number(row)
        if books is not None and number not in books:
            yield Left(row.place, "another book" if number else "no book number")
            continue
        missing.discard(number or 0)
        chapters = _chapters(_without_licence(row["text"]))
        if not chapters:
            yield Left(row.place, "no chapters", "text")
        for chapter in chapters:
            yield Document(chapter, lineage=(row.place,))
    if missing:
        progress.say(f"gutenberg: not among the rows: books {', '.join(map(str, sorted(missing)))}")


def _number(row: SourceRow) -> int | None:
    """Return the number under which Project Gutenberg has the book."""
    first = str(row.columns.get("id", "")).partition("-")[0]
    if first.isdecimal():
        return int(first)
    told = NUMBER.search(row["text"])
    return int(told[1]) if told else None


def _without_licence(text: str) -> str:
    """Return what stands between the marks; a mark that is missing cuts nothing."""
    text = text.replace("\r\n", "\n")
    start = START.search(text)
    text = text[start.end() :] if start else text
    end = END.search(text)
    return text[: end.start()] if end else text


def _chapters(text: str) -> list[str]:
    """Return the sections that have text under their heading; a heading alone is a part's or stands in the contents."""
    sections = _sections(text)
    names = [_name(section[0]) for section in sections]
    return [
        "\n\n".join(section).strip()
        for index, section in enumerate(sections)
        if len(section) > 1 and not _ends_contents(index, sections, names)
    ]


def _sections(text: str) -> list[list[str]]:
    """Return lists of paragraphs, each from one heading to the next; what precedes the first heading is no chapter."""
    sections: list[list[str]] = []
    for paragraph in map(str.rstrip, BLANK_LINES.split(text)):
        if _is_heading(paragraph):
            sections.append([paragraph])
        elif sections and paragraph:
            sections[-1].append(paragraph)
    return sections


def _is_heading(paragraph: str) -> bool:
    first, *others = paragraph.strip().split("\n")
    is_short = len(others) < HEADING_LINES
    return is_short and HEADING.fullmatch(first) is not None and not any(map(HEADING.fullmatch, others))


def _name(heading: str) -> tuple[str, str]:
    """Return the kind and number of a heading, `("CHAPTER", "IV")`."""
    kind, number = re.findall(r"\w+", heading.upper())[:2]
    return kind, number


def _ends_contents(index: int, sections: list[list[str]], names: list[tuple[str, str]]) -> bool:
    """Tell whether a section is the last entry of a table of contents, with the preface that follows it as its text.

    The entry before it is a bare heading of the same kind, and its own name comes again where the chapter is.
    """
    if index == 0 or len(sections[index - 1]) > 1:
        return False
    return names[index - 1][0] == names[index][0] and names[index] in names[index + 1 :]
