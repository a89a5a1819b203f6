"""What each candidate max_length would lose, in rows and in trained tokens; and the model's own limit."""

from collections.abc import Iterator, Sequence

from poise.preflight.finding import Finding, degree, places, share
from poise.preflight.known import Known, Length

CANDIDATES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
FEW, WARNS, STOPS = 0.01, 0.1, 0.5


def losses(lengths: Sequence[Length], limits: Sequence[int]) -> list[tuple[int, int, float]]:
    """Return (limit, rows lost, share of trained tokens lost) for each limit."""
    trained = max(1, sum(each.trained for each in lengths))
    return [
        (
            limit,
            sum(each.longest > limit for each in lengths),
            sum(each.trained for each in lengths if each.longest > limit) / trained,
        )
        for limit in limits
    ]


def candidates(known: Known) -> list[int]:
    """List the lengths worth comparing: powers of two up to the model's positions, and the recipe's own."""
    longest = max((each.longest for each in known.lengths), default=0)
    most = min(known.model.positions if known.model and known.model.positions else CANDIDATES[-1], 2 * longest)
    return sorted({known.recipe.data.max_length, *(each for each in CANDIDATES if each <= most)})


def check_lost(known: Known) -> Iterator[Finding]:
    """Say how many rows are lost to length, and from which length on they would not be."""
    lost = [each for each in known.lengths if not each.is_kept]
    if not lost:
        return
    tokens = sum(each.trained for each in lost) / max(1, sum(each.trained for each in known.lengths))
    part = max(len(lost) / len(known.lengths), tokens)
    section = known.recipe.data
    limit = f"max_length {section.max_length:,}"
    if section.max_prompt_length is not None:
        limit += f", max_prompt_length {section.max_prompt_length:,}"
    yield Finding(
        degree(part, 201, warns=WARNS, stops=STOPS),
        f"{share(len(lost), len(known.lengths))} and {tokens:.1%} of the trained tokens are lost at {limit}",
        _remedy(known, lost),
        places(lost),
    )


def _remedy(known: Known, lost: Sequence[Length]) -> str:
    longest = max(each.longest for each in lost)
    if longest <= known.recipe.data.max_length:
        return "raise max_prompt_length, or leave it out"
    rows = len(known.lengths)
    each = losses(known.lengths, candidates(known))
    enough = next((limit for limit, dropped, tokens in each if max(dropped / rows, tokens) <= FEW), longest)
    return f"max_length={enough} loses at most 1 % of rows and trained tokens; or overlong=truncate_prompt"


def check_positions(known: Known) -> Iterator[Finding]:
    """Compare the longest sequences with what the model was made for."""
    if known.model is None or known.model.positions is None:
        return
    beyond = [row for row in known.rows if max(row.sequence_lengths()) > known.model.positions]
    if beyond:
        longest = max(max(row.sequence_lengths()) for row in beyond)
        yield Finding(
            "E202" if known.model.learns_positions else "W202",
            f"{share(len(beyond), len(known.rows))} are longer than the model's {known.model.positions:,} positions, "
            f"the longest {longest:,}",
            f"max_length={known.model.positions}",
            places(beyond),
        )
