r"""Rosetta Code: the same programming tasks solved in hundreds of languages.

https://huggingface.co/datasets/cakiki/rosetta-code

    {"task_url": "http://rosettacode.org/wiki/Ascending_primes", "task_name": "Ascending primes",
     "task_description": "Generate and show all primes with strictly ascending decimal digits. …",
     "language_url": "#Python", "language_name": "Python", "code": "from sympy import isprime\n …"}
"""

from collections.abc import Iterable, Iterator

from poise.examples import Conversation, Message
from poise.sources.dataset import About, Left, SourceRow

ABOUT = About(
    hub="cakiki/rosetta-code",
    columns={"task_name": str, "task_description": str, "language_name": str, "code": str},
    licence="gfdl",
    confidence=2,
)


def read_all(rows: Iterable[SourceRow]) -> Iterator[Conversation | Left]:
    """Ask for each task in each of its languages; the first program of a task and language is the answer."""
    seen: set[tuple[str, str]] = set()
    for row in rows:
        task, language = row["task_name"], row["language_name"]
        if not row["code"].strip():
            yield Left(row.place, "empty completion", "code")
            continue
        if (task, language) in seen:
            yield Left(row.place, "another program for its task and language", f"{task} in {language}")
            continue
        seen.add((task, language))
        asked = f"Write a program in {language} that does this task:\n\n{row['task_description']}"
        yield Conversation((Message("user", asked), Message("assistant", row["code"])), lineage=(row.place,))
