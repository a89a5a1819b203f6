"""Mismatched answers: beside its own, every prompt gets the answer of another row, to estimate a divergence from.

    row 1  [prompt 1][answer 1]                        row 1  [prompt 1][answer 1][answer 2]
    row 2  [prompt 2][answer 2]            ->          row 2  [prompt 2][answer 2][answer 3]
    row 3  [prompt 3][answer 3]                        row 3  [prompt 3][answer 3][answer 1]

Which answer is settled once, before training, by the order of the rows alone. So it depends on neither the batch size
nor the number of processes, and its log-probabilities under the reference are computed once and stored.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace

from poise.batch.row import Row, Segment
from poise.errors import DataError


def with_mismatched(rows: Sequence[Row], max_length: int | None = None) -> list[Row]:
    """Give each row the answer of the next row with another prompt and another answer; the first follows the last.

    Where no other prompt has another answer, another answer to the same prompt is taken. Of a row with several answers
    the rows before it take turns. An answer that does not fit `max_length` behind its new prompt is cut there, as its
    log-probability is only averaged. Raises DataError where some row has no other answer to take.
    """
    prompts = [row.segments[0].ids.tobytes() for row in rows]
    answers = [tuple(row.segments[index].ids.tobytes() for index, _ in row.labeled) for row in rows]
    after_prompt, after_answers = _next_other(prompts), _next_other(answers)
    mismatched: list[Row] = []
    for index, row in enumerate(rows):
        donor = _donor(index, prompts, answers, after_prompt, after_answers)
        if donor is None:
            raise DataError(
                f"{row.place or row.id}: no other row has another answer for this prompt (rows: {len(rows):,})\n"
                "    why:    the divergence from the reference is estimated from answers to other prompts\n"
                "    to do:  give at least two rows with different answers, to train on and held out, or use "
                "apo_zero_unpaired, which estimates none"
            )
        place, which = donor
        lent = rows[place].segments[rows[place].labeled[which][0]]
        mismatched.append(replace(row, segments=(*row.segments, _cut(lent, row, max_length))))
    return mismatched


def _donor(
    index: int,
    prompts: Sequence[bytes],
    answers: Sequence[tuple[bytes, ...]],
    after_prompt: Sequence[int],
    after_answers: Sequence[int],
) -> tuple[int, int] | None:
    """Find (row, which of its answers), by whole runs of equal prompts and answers; None where there is none."""
    rows = len(prompts)
    for same_prompt in (False, True):
        step = 1
        while step < rows:
            place = (index + step) % rows
            if prompts[place] == prompts[index] and not same_prompt:
                step += after_prompt[place]
                continue
            turns = [(index + turn) % len(answers[place]) for turn in range(len(answers[place]))]
            which = next((turn for turn in turns if answers[place][turn] not in answers[index]), None)
            if which is not None:
                return place, which
            step += after_answers[place]
    return None


def _next_other(keys: Sequence[Hashable]) -> list[int]:
    """Count, for each place, the steps to the next other key, going round; len(keys) where none differs."""
    size = len(keys)
    steps = [size] * size
    for place in range(2 * size - 2, -1, -1):
        here, following = place % size, (place + 1) % size
        steps[here] = 1 if keys[here] != keys[following] else min(steps[following] + 1, size)
    return steps


def _cut(answer: Segment, row: Row, max_length: int | None) -> Segment:
    room = None if max_length is None else max_length - len(row.segments[0])
    return replace(
        answer, ids=answer.ids[:room], trained=answer.trained[:room], parent=0, rank=None, label="mismatched"
    )
