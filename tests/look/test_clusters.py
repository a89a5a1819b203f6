"""Which rows lost to which."""

from poise.look.look import look
from poise.look.told import told


def test_a_cluster_is_every_row_that_lost_to_one_in_however_many_steps(curated, chat, turns, store) -> None:
    """3 lost to 2, which lost to 1; 6 lost to 5, which was too long later; 1 and 5 won."""
    lost = [("a:3", "a:2"), ("a:2", "a:1"), ("a:4", "a:1"), ("a:6", "a:5"), ("a:5", "")]
    ledger = [
        {"id": name, "other": other, "stage": "exact", "reason": "copy", "evidence": "same"} for name, other in lost
    ]
    ledger[-1] |= {"stage": "tokens", "reason": "too long", "evidence": "9 > 8"}
    folder = curated({("conversation", "train"): [chat("a:1", "q", "r")]}, ledger)
    store(folder, {f"a:{number}": {"messages": turns(f"question {number}", "r")} for number in (1, 2, 3, 5)})
    found = look(folder)["clusters"]
    assert (found["clusters"], found["rows"]) == (2, 4)
    first, second = found["largest"]
    assert (first["rows"], first["kept"]["id"], [each["id"] for each in first["lost"]]) == (
        3,
        "a:1",
        ["a:2", "a:3", "a:4"],
    )
    assert first["kept"]["turns"][0] == {"who": "user", "text": "question 1"}
    assert first["lost"][2] == {"id": "a:4", "stage": "exact", "reason": "copy", "evidence": "same", "turns": None}
    assert (second["kept"]["id"], second["kept"]["reason"]) == ("a:5", "too long")


def test_the_largest_clusters_come_first_and_without_stages_have_no_texts(curated, chat) -> None:
    ledger = [
        {"id": f"a:{n}-{m}", "other": f"a:{n}", "stage": "exact", "reason": "copy"}
        for n in range(10, 22)
        for m in range(n)
    ]
    facts = look(curated({("conversation", "train"): [chat("a:1", "q", "r")]}, ledger))
    assert [each["rows"] for each in facts["clusters"]["largest"]] == [21, 20, 19, 18, 17, 16, 15, 14]
    assert [each["id"] for each in facts["clusters"]["largest"][0]["lost"]] == [
        "a:21-0",
        "a:21-1",
        "a:21-10",
        "a:21-11",
    ]
    assert facts["clusters"]["largest"][0]["kept"] == {"id": "a:21", "turns": None}
    assert "duplicates: 186 rows lost to others, clusters: 12; most to" in told(facts)
