"""Which other row's answer stands behind a prompt: the next one that differs, whatever the batch."""

import time

import numpy as np
import pytest

from poise.batch.mismatch import with_mismatched
from poise.batch.row import Row, Segment
from poise.errors import DataError


def segment(text: str, parent: int = -1, **marks: object) -> Segment:
    return Segment(np.array([ord(each) for each in text], np.int32), np.full(len(text), parent >= 0), parent, **marks)  # type: ignore[arg-type]


def row(prompt: str, *answers: str) -> Row:
    """One labelled answer, or a desirable and an undesirable one."""
    labels = ("desirable", "undesirable")
    return Row(prompt, (segment(prompt), *(segment(text, 0, label=labels[i]) for i, text in enumerate(answers))))


def mismatched(*rows: Row, max_length: int | None = None) -> list[str]:
    """Spell the last segment of each row, which must be another row's answer to nothing but the prompt."""
    made = with_mismatched(rows, max_length)
    assert [each.segments[:-1] for each in made] == [each.segments for each in rows]
    lent = [each.segments[-1] for each in made]
    assert all((each.label, each.parent, each.rank) == ("mismatched", 0, None) and each.trained.all() for each in lent)
    return ["".join(map(chr, each.ids.tolist())) for each in lent]


def test_each_prompt_gets_the_answer_of_the_next_row() -> None:
    assert mismatched(row("p", "a"), row("q", "b"), row("r", "c")) == ["b", "c", "a"]


def test_rows_of_the_same_prompt_or_the_same_answer_are_passed_over() -> None:
    assert mismatched(row("p", "a"), row("p", "b"), row("q", "a"), row("r", "c")) == ["c", "a", "c", "a"]


def test_after_a_run_of_equal_ones_the_very_next_is_taken() -> None:
    prompts = (row("p", "a"), row("p", "b"), row("p", "c"), row("q", "d"), row("r", "e"))
    assert mismatched(*prompts) == ["d", "d", "d", "e", "a"]
    answers = (row("p", "a"), row("q", "a"), row("r", "a"), row("s", "b"), row("t", "c"))
    assert mismatched(*answers) == ["b", "b", "b", "c", "a"]


def test_another_answer_to_the_same_prompt_will_do_where_there_is_no_other_prompt() -> None:
    assert mismatched(row("p", "a"), row("p", "a"), row("p", "b")) == ["b", "b", "a"]
    assert mismatched(row("p", "a"), row("p", "b"), row("q", "a")) == ["b", "a", "b"]


def test_the_answers_of_a_pair_take_turns() -> None:
    rows = [row(prompt, f"{prompt}+", f"{prompt}-") for prompt in "pqrs"]
    assert mismatched(*rows) == ["q+", "r-", "s+", "p-"]


def test_an_answer_of_a_pair_that_the_row_has_itself_is_passed_over() -> None:
    assert mismatched(row("p", "a", "b"), row("q", "a", "c")) == ["c", "b"]


def test_an_answer_too_long_for_its_new_prompt_is_cut() -> None:
    assert mismatched(row("pppp", "a"), row("q", "bcdefg"), max_length=7) == ["bcd", "a"]


def test_the_choice_does_not_depend_on_labels_ids_or_places() -> None:
    rows = [Row("x", (segment(p), segment(a, 0, label="undesirable")), place) for p, a, place in ("pa1", "qb2", "rc3")]
    assert mismatched(*rows) == mismatched(row("p", "a"), row("q", "b"), row("r", "c"))


@pytest.mark.parametrize("rows", [[row("p", "a")], [row("p", "a"), row("q", "a")], [row("p", "a")] * 3])
def test_rows_without_another_answer_are_refused(rows: list[Row]) -> None:
    with pytest.raises(DataError, match="no other row has another answer") as caught:
        with_mismatched(rows)
    assert "why:" in str(caught.value)
    assert "apo_zero_unpaired" in str(caught.value)


def test_no_row_gets_none() -> None:
    assert with_mismatched([]) == []


def test_long_runs_of_equal_rows_are_passed_over_at_once() -> None:
    """Yes and no, sorted: every yes must find the first no; a scan of all rows takes minutes."""
    rows = [row(f"{index}", "yes" if index < 20_000 else "no") for index in range(40_000)]
    started = time.process_time()
    assert mismatched(*rows) == ["no"] * 20_000 + ["yes"] * 20_000
    assert time.process_time() - started < 10
