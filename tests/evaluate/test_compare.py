"""Comparing two models: paired, clustered, over all tasks at once, and never over different prompts."""

import json
from pathlib import Path

import pytest

from poise.errors import RunError
from poise.evaluate.compare import compare, told
from poise.evaluate.result import Item, Result


def write(folder: Path, items: list[Item]) -> Path:
    Result("generate", "m", [], items).write(folder)
    return folder


def items(task: str, scores: list[float | None], *, asked: str = "same", turns: int = 1) -> list[Item]:
    return [Item(task, f"{n}", f"{n // turns}", asked, score) for n, score in enumerate(scores)]


def test_right_and_wrong_answers_are_tested_exactly(tmp_path: Path) -> None:
    """10 got better, 1 worse of 20: p = 2 · (1 + 11) / 2048; the difference is 9 / 20."""
    before = [0.0] * 10 + [1.0] + [1.0] * 5 + [0.0] * 4
    after = [1.0] * 10 + [0.0] + [1.0] * 5 + [0.0] * 4
    (task,) = compare(write(tmp_path / "a", items("facts", before)), write(tmp_path / "b", items("facts", after)))[
        "tasks"
    ]
    assert (task["worse"], task["better"], task["n"], task["test"]) == (1, 10, 20, "exact McNemar")
    assert task["p"] == pytest.approx(24 / 2048)
    assert task["difference"]["value"] == pytest.approx(9 / 20)
    assert task["difference"]["low"] > 0.1
    assert task["smallest_detectable"] == pytest.approx(2.8016 * task["difference"]["standard_error"], rel=1e-4)


def test_many_tasks_are_adjusted_for_and_grades_are_compared_by_cluster(tmp_path: Path) -> None:
    grades = [float(n % 5 + 3) for n in range(40)]
    was = [*items("mtbench", list(grades), turns=2), *items("facts", [0.0] * 8)]
    now = [
        *items("mtbench", [grade + 1 + n % 2 for n, grade in enumerate(grades)], turns=2),
        *items("facts", [1.0] * 8),
    ]
    found = compare(write(tmp_path / "a", was), write(tmp_path / "b", now))
    grade, facts = found["tasks"]
    assert (grade["test"], facts["test"]) == ("sign flips", "exact McNemar")
    assert grade["difference"]["value"] == 1.5
    assert grade["adjusted_p"] == pytest.approx(2 * grade["p"])
    assert facts["p"] == pytest.approx(2 / 2**8)
    assert "after Holm over 2: clear" in told(found)
    assert "would have shown in 4 of 5" in told(found)


def test_items_without_a_score_are_left_out_and_counted(tmp_path: Path) -> None:
    was, now = items("x", [1.0, 0.0, None, 1.0]), items("x", [1.0, 1.0, 1.0, None, 1.0])
    found = compare(write(tmp_path / "a", was), write(tmp_path / "b", now))
    assert (found["tasks"][0]["n"], found["tasks"][0]["unscored"]) == (2, 2)
    assert found["only_in"] == {"before": 0, "after": 1}


def test_other_prompts_are_refused(tmp_path: Path) -> None:
    was, now = items("x", [1.0, 0.0]), [*items("x", [1.0]), *items("x", [1.0, 0.0], asked="other")[1:]]
    with pytest.raises(RunError, match=r"1 items .* were asked or judged differently, the first: x 1"):
        compare(write(tmp_path / "a", was), write(tmp_path / "b", now))


@pytest.mark.parametrize("other", [items("y", [1.0]), items("x", [None])])
def test_nothing_in_common_is_refused(other: list[Item], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="share no scored item"):
        compare(write(tmp_path / "a", items("x", [1.0])), write(tmp_path / "b", other))


def test_a_folder_without_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no items\.jsonl"):
        compare(tmp_path, tmp_path)


def test_training_runs_are_compared_by_their_last_model(tmp_path: Path) -> None:
    for name, scores in (("sft", (0.0, 0.0)), ("dpo", (1.0, 0.0))):
        (tmp_path / name).mkdir()
        rows = [
            {"id": f"{n}", "set": "facts", "prompt": [{"role": "user", "content": f"{n}?"}], "expected": "x",
             "answers": {"before": {"score": 0.0}, "after": {"score": score}}}
            for n, score in enumerate(scores)
        ]  # fmt: skip
        (tmp_path / name / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (task,) = compare(tmp_path / "sft", tmp_path / "dpo")["tasks"]
    assert (task["better"], task["worse"]) == (1, 0)
