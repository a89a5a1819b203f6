"""Belebele: reading comprehension in 122 languages (Bandarkar et al. 2023, arXiv:2308.16884), a config for each.

https://huggingface.co/datasets/facebook/belebele

    {"link": "https://en.wikibooks.org/wiki/Accordion/Right_hand", "question_number": 1,
     "flores_passage": "Make sure your hand is as relaxed as possible while still hitting all the notes …",
     "question": "According to the passage, what would not be considered an accurate tip for …?",
     "mc_answer1": "For additional volume, increase the force with which you hit the keys", …, "mc_answer4": "…",
     "correct_answer_num": "1", "dialect": "eng_Latn", "ds": "2023-05-03"}
"""

from poise.catalog._choices import ask, ask_bare, right_choice
from poise.examples import Conversation
from poise.sources.dataset import About, SourceRow

NUMBERS = ("1", "2", "3", "4")
ANSWERS = tuple(f"mc_answer{number}" for number in NUMBERS)

ABOUT = About(
    hub="facebook/belebele",
    config="eng_Latn",
    split="test",
    columns={"flores_passage": str, "question": str, **dict.fromkeys(ANSWERS, str), "correct_answer_num": str},
    licence="cc-by-sa-4.0",
    risk="It is evaluation data without a training split: a model trained on it can no longer be measured by "
    "Belebele, nor by FLORES-200, from which the passages are taken.",
    opt_in=True,
)


def read(row: SourceRow, *, bare: bool = False) -> Conversation:
    """Ask about the passage; `bare` shows no choices, as bagel did, and has the text of the right one as the answer."""
    asked = f"{row['flores_passage']}\n\n{row['question']}"
    answers = [row[column] for column in ANSWERS]
    right = right_choice(row["correct_answer_num"], NUMBERS, "correct_answer_num")
    return ask_bare(asked, answers, right) if bare else ask(asked, answers, right)
