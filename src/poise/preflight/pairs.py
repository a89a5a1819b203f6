"""Preference pairs: what could be learned from them instead of the preference."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from poise.batch.row import Row
from poise.examples import Message, PreferencePair
from poise.preflight.finding import Finding, places, share
from poise.preflight.known import Known

ENOUGH = 50
"""Pairs below which a share says little: 80 % of 50 has a 95 % interval of 66 to 90 %."""
NOTED, WARNED = 0.8, 0.95
TIMES_LONGER, TOKENS_LONGER = 2.0, 50
CONTRADICTIONS = 0.05
MOST = 0.5


def check_length_bias(known: Known) -> Iterator[Finding]:
    """Compare trained tokens of chosen and rejected answers."""
    lengths = [pair for row in known.rows for pair in _pair_lengths(row)]
    if len(lengths) < ENOUGH:
        return
    longer = sum(chosen > rejected for chosen, rejected in lengths) / len(lengths)
    shorter = sum(chosen < rejected for chosen, rejected in lengths) / len(lengths)
    word, part = ("longer", longer) if longer >= shorter else ("shorter", shorter)
    if part < NOTED:
        return
    ratio = median(max(pair) / max(1, min(pair)) for pair in lengths)
    tokens = median(abs(chosen - rejected) for chosen, rejected in lengths)
    strong = part >= WARNED and ratio >= TIMES_LONGER and tokens >= TOKENS_LONGER
    yield Finding(
        "W405" if strong else "N405",
        f"chosen is {word} in {part:.0%} of {len(lengths):,} pairs: {ratio:.1f} times, {tokens:.0f} tokens (medians)",
    )


def _pair_lengths(row: Row) -> Iterator[tuple[int, int]]:
    trained = [int(segment.trained.sum()) for segment in row.segments]
    return ((trained[better], trained[worse]) for better, worse in row.pairs)


def check_contradictions(known: Known) -> Iterator[Finding]:
    """Find pairs that prefer the same two answers the other way round."""
    pairs = _pairs(known)
    seen = {(pair.prompt, pair.chosen, pair.rejected) for pair in pairs}
    both = [pair for pair in pairs if (pair.prompt, pair.rejected, pair.chosen) in seen]
    if both:
        code = "W406" if len(both) >= CONTRADICTIONS * len(pairs) else "N406"
        yield Finding(code, f"{share(len(both), len(pairs))} are also there the other way round", rows=places(both))


def check_same_rejected(known: Known) -> Iterator[Finding]:
    """Find one rejected answer in most pairs."""
    pairs = _pairs(known)
    if len(pairs) < ENOUGH:
        return
    answer, count = Counter(_text(pair.rejected) for pair in pairs).most_common(1)[0]
    if count > MOST * len(pairs):
        yield Finding("N407", f"{share(count, len(pairs))} reject {answer[:60]!r}")


def _pairs(known: Known) -> Sequence[PreferencePair]:
    return [example for example in known.train if isinstance(example, PreferencePair)]


def _text(messages: Sequence[Message]) -> str:
    return "\n".join(message.content for message in messages)
