"""Rows are counted by what they are and where they came from."""

from poise.look.look import look


def test_rows_are_counted_by_kind_split_and_source(curated, chat, pair) -> None:
    folder = curated(
        {
            ("conversation", "train"): [
                chat("a:1", "q", "r"),
                chat("a:1", "q", "r"),
                chat("b:1", "q", "r", system="s"),
            ],
            ("conversation", "test"): [chat("a:2", "q", "r")],
            ("preference_pair", "train"): [pair("b:2", "q", "good", "bad")],
        }
    )
    facts = look(folder)
    assert facts["rows"] == 5
    assert facts["by_kind"] == {"conversation": {"train": 3, "test": 1}, "preference_pair": {"train": 1}}
    kinds = {"conversation": {"train": 1}, "preference_pair": {"train": 1}}
    assert facts["by_source"] == {
        "a": {"rows": 3, "kinds": {"conversation": {"train": 2, "test": 1}}, "system": {"with": 0, "of": 3}},
        "b": {"rows": 2, "kinds": kinds, "system": {"with": 1, "of": 2}},
    }
    assert facts["system"] == {"with": 1, "of": 5}
