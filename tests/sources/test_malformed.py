"""Every malformed file is refused with one DataError that names the place; none shows a traceback of ours."""

from typing import Any

import pytest

from poise.errors import DataError
from poise.sources import SourceSpec, load


def test_malformed_file_is_refused_with_its_place_and_a_remedy(malformed_case: Any):
    with pytest.raises(DataError) as caught:
        load(SourceSpec(str(malformed_case.path)))
    message = str(caught.value)
    for fragment in (*malformed_case.fragments, "why:", "to do:"):
        assert fragment in message
    assert "Traceback" not in message
    assert len(message) < 1500


def test_the_corpus_is_written_whole(malformed_cases: Any):
    assert len(malformed_cases) >= 34
    assert len({case.path for case in malformed_cases}) == len(malformed_cases)


def test_malformed_file_still_raises_or_is_accounted_for_when_bad_rows_are_dropped(malformed_case: Any):
    try:
        loaded = load(SourceSpec(str(malformed_case.path)), on_bad_row="drop")
    except DataError as error:
        assert "`on_bad_row: drop`" not in str(error)
    else:
        assert loaded.drops
        assert loaded.rows_in.total() == len(loaded.examples) + len(loaded.drops)
