"""GSM8K: grade-school word problems, solved step by step by people (Cobbe et al. 2021, arXiv:2110.14168), train split.

https://huggingface.co/datasets/openai/gsm8k

    {"question": "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. …",
     "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\\nNatalia sold 48+24 = … in April and May.\\n#### 72"}
"""

import re

from poise.examples import Conversation, Message
from poise.sources.dataset import About, SourceRow
from poise.sources.refusal import RowError

ABOUT = About(
    hub="openai/gsm8k",
    config="main",
    columns={"question": str, "answer": str},
    licence="mit",
    confidence=3,
)
CALCULATION = re.compile(r"<<.*?>>")
FINAL_ANSWER = re.compile(r"^#### *\S", re.MULTILINE)


def read(row: SourceRow, *, calculator: bool = True) -> Conversation:
    """Answer with the reasoning and `#### 72`; without `calculator` the annotations `<<48/2=24>>` are cut out."""
    answer = row["answer"]
    if not FINAL_ANSWER.search(answer):
        raise RowError(
            "no final answer",
            " answer",
            "there is no line that begins with `####`",
            "every published solution ends with such a line, and the result is read from it",
            "write the result on a last line `#### 72`, or leave the row out",
        )
    if not calculator:
        answer = CALCULATION.sub("", answer)
    return Conversation((Message("user", row["question"]), Message("assistant", answer)))
