"""Which rows are shown."""

from poise.look.look import look


def test_examples_are_the_same_in_any_order_and_number_of_files_and_show_a_repeated_row_once(curated, chat) -> None:
    rows = [chat(f"{source}:{number}", f"question {number}", "r") for source in "ab" for number in range(50)]
    one = look(curated({("conversation", "train"): rows}))["examples"]
    many = look(curated({("conversation", "train"): [*rows[::-1], *rows]}, name="again", files=7))["examples"]
    assert one == many
    assert {name: len({each["id"] for each in listed}) for name, listed in one.items()} == {"a": 3, "b": 3}
