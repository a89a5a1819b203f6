"""Spider: questions about 200 databases with the SQL that answers them (Yu et al. 2018, arXiv:1809.08887), train.

https://huggingface.co/datasets/xlangai/spider

    {"db_id": "department_management", "question": "How many heads of the departments are older than 56 ?",
     "query": "SELECT count(*) FROM head WHERE age  >  56", "query_toks": […], …}
"""

from poise.examples import Conversation, Message
from poise.sources.answers import conversation
from poise.sources.dataset import About, SourceRow

ABOUT = About(
    hub="xlangai/spider",
    columns={"question": str, "query": str},
    licence="cc-by-sa-4.0",
    confidence=1,
    risk="The rows hold no database schema, so the model learns to invent the names of tables and columns.",
)


def read(row: SourceRow) -> Conversation:
    """Ask for the SQL that answers the question."""
    asked = f"Which SQL query answers this question?\n\n{row['question']}"
    return conversation((Message("user", asked), Message("assistant", row["query"])), "query")
