"""WinoGrande: which of two words a sentence means at its blank (Sakaguchi et al. 2019, arXiv:1907.10641).

https://huggingface.co/datasets/allenai/winogrande

    {"sentence": "Ian volunteered to eat Dennis's menudo after already having a bowl because _ despised eating …",
     "option1": "Ian", "option2": "Dennis", "answer": "2"}
"""

from poise.catalog._choices import ask, ask_bare, right_choice
from poise.examples import Conversation
from poise.sources.dataset import About, SourceRow

ABOUT = About(
    hub="allenai/winogrande",
    config="winogrande_xl",
    columns={"sentence": str, "option1": str, "option2": str, "answer": str},
    licence="cc-by",
    confidence=3,
)
INSTRUCTION = "Which choice makes sense at the blank `_` of this sentence?"


def read(row: SourceRow, *, bare: bool = False) -> Conversation:
    """Ask what belongs at the blank; `bare` gives the sentence alone, as bagel did, and the word as the answer."""
    options = (row["option1"], row["option2"])
    right = right_choice(row["answer"], ("1", "2"), "answer")
    if bare:
        return ask_bare(row["sentence"], options, right)
    return ask(f"{INSTRUCTION}\n\n{row['sentence']}", options, right)
