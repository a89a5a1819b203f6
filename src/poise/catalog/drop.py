"""DROP: questions that need counting, sorting or sums over a passage (Dua et al. 2019, arXiv:1903.00161), train split.

https://huggingface.co/datasets/ucinlp/drop

    {"section_id": "nfl_2201", "query_id": "f16c0ee7-…", "question": "Who scored the first touchdown of the game?",
     "passage": "To start the season, the Lions traveled south to Tampa, Florida to take on …",
     "answers_spans": {"spans": ["Mike Alstott"], "types": ["span"]}}
"""

from poise.examples import Conversation, Message
from poise.sources.dataset import About, Probability, SourceRow
from poise.sources.refusal import NothingToLearn

ABOUT = About(
    hub="ucinlp/drop",
    columns={"passage": str, "question": str, "answers_spans": {"spans": [str]}},
    licence="cc-by-sa-4.0",
)
SYSTEM = "Keep answers brief: give the number, date, name or phrase that is asked for, without a sentence around it."


def read(row: SourceRow, *, question_first: Probability = 0.5) -> Conversation:
    """Ask for a brief answer, with the probability `question_first` before the passage, else after it."""
    answer = ", ".join(row["answers_spans"]["spans"])
    if not answer.strip(", "):
        raise NothingToLearn("no answer", "answers_spans")
    parts = [row["passage"], row["question"]]
    if row.chance.random() < question_first:
        parts.reverse()
    asked = "\n\n".join(parts)
    return Conversation((Message("system", SYSTEM), Message("user", asked), Message("assistant", answer)))
