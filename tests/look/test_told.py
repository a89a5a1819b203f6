"""The text for a terminal."""

from typing import Any

from poise.look.look import look
from poise.look.told import told


def test_the_terminal_text_fits_in_100_columns(curated, chat) -> None:
    rows = [
        chat(f"{'source' * 20}:{number}", "question " * number, "answer " * number * number) for number in range(1, 60)
    ]
    drop = {"id": "a:2", "other": "a:" + "1" * 120, "stage": "exact", "reason": "copy " * 30}
    text = told(look(curated({("conversation", "train"): rows}, [drop])))
    assert max(len(line) for line in text.splitlines()[:-1]) == 100
    assert text.splitlines()[-1].startswith("page: ")


def test_a_histogram_is_drawn_in_blocks() -> None:
    found = {
        "edges": [0, 5, 10, 15],
        "counts": [1, 0, 16],
        "median": 12,
        "p95": 14,
        "longest": 99,
        "longer": 2,
        "cut": 11,
    }
    lines = [
        "tokens, combined: median 12, 95 % up to 14, longest 99",
        "  ▁ █│  and 2 longer",
        "  0 15",
        "    ^ cut 11",
    ]
    facts = {"lengths": {"tokens": {"combined": found}}, "dataset": "d", "rows": 0, "counts": {"in": 0, "used": 0}}
    rest: dict[str, Any] = {"by_kind": {}, "by_source": {}, "turns": None, "counted_by": None, "page": "p"}
    text = told({**facts, **rest, "dropped": [], "clusters": None, "examples": {}})
    assert text.splitlines()[3:8] == ["", *lines]
