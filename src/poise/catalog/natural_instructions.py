"""Super-Natural Instructions: 1,600 tasks, each defined in words (Wang et al. 2022, arXiv:2204.07705), the train split.

https://huggingface.co/datasets/Muennighoff/natural-instructions

    {"task_name": "task001_quoref_question_generation", "id": "task001-3f0e…", "definition": "In this task, you're …",
     "inputs": "Passage: Nearing London, Oliver encounters …", "targets": "What is the full name of the person who …"}
"""

from poise.examples import Conversation, Message
from poise.sources.answers import conversation
from poise.sources.dataset import About, SourceRow

ABOUT = About(
    hub="Muennighoff/natural-instructions",
    columns={"definition": str, "inputs": str, "targets": str},
    licence="apache-2.0",
    confidence=1,
    risk="Some tasks are made from benchmarks such as MMLU, HellaSwag and WinoGrande: decontaminate against what you "
    "evaluate on.",
)


def read(row: SourceRow) -> Conversation:
    """State the task's definition and one input; the target is the answer."""
    asked = f"{row['definition']}\n\n{row['inputs']}"
    return conversation((Message("user", asked), Message("assistant", row["targets"])), "targets")
