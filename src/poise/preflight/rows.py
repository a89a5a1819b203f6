"""Rows of any kind: copies, leaks into the held-out rows, and texts that came out of another program's mistake."""

import re
from collections import Counter
from collections.abc import Iterator

from poise.batch.tokens import control_tokens
from poise.examples import (
    Conversation,
    Document,
    Example,
    LabeledConversation,
    Message,
    PreferencePair,
    asked,
    template_of,
)
from poise.preflight.finding import Finding, places, share
from poise.preflight.known import Known

ENOUGH = 50
MOST = 0.5
LEAKED, MARKED, NOTHING_SAID = 0.05, 0.2, 0.01
"""Shares that warn: held-out rows that are trained on, rows with markers, answers that say nothing."""
MARKERS = (
    "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "[INST]",
    "[/INST]", "<<SYS>>", "<|user|>", "<|assistant|>", "<|system|>", "### Instruction:", "### Response:",
    "\n\nHuman:", "\n\nAssistant:",
)  # fmt: skip
"""What the templates in use write around a turn."""
NOTHING = frozenset(("nan", "<na>", "undefined", "[object object]"))
"""What programs print for a value that is not there, in lower case. `none` and `null` can be answers."""
REPLACED = "\N{REPLACEMENT CHARACTER}"


def check_copies(known: Known) -> Iterator[Finding]:
    """Count rows that stand in the training data more than once."""
    by_content = {(each.id, template_of(each)): each for each in known.train}
    counts = Counter((each.id, template_of(each)) for each in known.train)
    copies = len(known.train) - len(counts)
    if copies:
        repeated = [example for content, example in by_content.items() if counts[content] > 1]
        yield Finding("N409", f"{share(copies, len(known.train))} are copies of others", rows=places(repeated))


def check_leaks(known: Known) -> Iterator[Finding]:
    """Find held-out rows whose question is trained on."""
    trained = {asked(example) for example in known.train}
    leaked = [example for example in known.held_out if asked(example) in trained]
    if leaked:
        code = "W410" if len(leaked) >= LEAKED * len(known.held_out) else "N410"
        yield Finding(
            code, f"{share(len(leaked), len(known.held_out))} held out ask what is trained on", rows=places(leaked)
        )


def check_markers(known: Known) -> Iterator[Finding]:
    """Find texts in which a template has left its marks, or a user the tokenizer's own control tokens."""
    own = control_tokens(known.tokenizer.tokenizer) if known.tokenizer else {}
    pattern = re.compile("|".join(map(re.escape, sorted({*MARKERS, *own}, key=len, reverse=True))))
    turns = [example for example in known.train if not isinstance(example, Document)]
    marked = [example for example in turns if any(pattern.search(each.content) for each in messages(example))]
    if marked:
        code = "W411" if len(marked) >= ENOUGH * MARKED and len(marked) >= MARKED * len(turns) else "N411"
        yield Finding(code, f"{share(len(marked), len(turns))} hold template markers as text", rows=places(marked))


def check_nothing_said(known: Known) -> Iterator[Finding]:
    """Find answers that a failed export left."""
    empty = [
        example
        for example in known.train
        if any(each.role == "assistant" and each.content.strip().lower() in NOTHING for each in messages(example))
    ]
    if empty:
        code = "W412" if len(empty) >= NOTHING_SAID * len(known.train) else "N412"
        what = f"{share(len(empty), len(known.train))} answer nan, undefined or the like"
        yield Finding(code, what, rows=places(empty))


def check_damage(known: Known) -> Iterator[Finding]:
    """Find characters that stand for what could not be read."""
    damaged = [example for example in known.train if any(REPLACED in text for text in texts(example))]
    if damaged:
        yield Finding("N413", f"{share(len(damaged), len(known.train))} hold {REPLACED!r}", rows=places(damaged))


def check_same_answer(known: Known) -> Iterator[Finding]:
    """Find one answer in most conversations."""
    answers = [
        "\n".join(message.content for message in example.messages if message.role == "assistant")
        for example in known.train
        if isinstance(example, Conversation)
    ]
    if len(answers) < ENOUGH:
        return
    answer, count = Counter(answers).most_common(1)[0]
    if count > MOST * len(answers):
        yield Finding("N408", f"{share(count, len(answers))} answer {answer[:60]!r}")


def check_held_out(known: Known) -> Iterator[Finding]:
    """Held-out rows and the wish to evaluate belong together."""
    evaluates = known.recipe.training["eval_strategy"] != "no"
    if evaluates and known.rows and not known.held_out_rows:
        what = f"eval_strategy: {known.recipe.training['eval_strategy']}, and no held-out row is left"
        size, remedy = known.recipe.data.test_split_size, ""
        if not known.held_out and size is not None:
            what += f"; rows that ask the same stay together, and every question has more than test_split_size {size:g}"
            remedy = "a larger test_split_size, or eval_strategy=no"
        yield Finding("E415", what, remedy)
    said = known.recipe.data.test_split_size is not None or known.recipe.data.dataset_test_split is not None
    if not evaluates and said and known.held_out_rows:
        yield Finding("N416", f"{len(known.held_out_rows):,} held-out rows, and eval_strategy is no")


def messages(example: Example) -> tuple[Message, ...]:
    """Return every message of an Example; a Document has none."""
    match example:
        case Document():
            return ()
        case Conversation(messages=turns) | LabeledConversation(messages=turns):
            return turns
        case PreferencePair(prompt=prompt, chosen=chosen, rejected=rejected):
            return (*prompt, *chosen, *rejected)
        case _:
            return (*example.prompt, *(message for answer in example.answers for message in answer))


def texts(example: Example) -> Iterator[str]:
    """Yield every text of an Example."""
    if isinstance(example, Document):
        yield example.text
    yield from (message.content for message in messages(example))
