"""Evaluations in the report: every number with its interval, every text escaped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poise.errors import RunError
from poise.report.evaluations import read_evaluations
from poise.report.report import build_report

RESULT: dict[str, Any] = {
    "kind": "mtbench",
    "model": "<b>mine</b>",
    "judge": {"model": "gpt-4", "host": "judge.example"},
    "tables": [
        {
            "title": "MT-Bench",
            "unit": "grade 1 to 10",
            "lines": [
                {
                    "name": "first turn",
                    "estimate": {"value": 7.60625, "standard_error": 0.2, "low": 7.2, "high": 8.0, "n": 79},
                    "unscored": 1,
                    "worst": [7.5, 7.7],
                }
            ],
        }
    ],
    "notes": ["graded <once>"],
}


def write(folder: Path, content: Any) -> Path:
    folder.mkdir()
    (folder / "evaluation.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_a_report_shows_every_number_with_its_interval_and_what_has_no_score(
    write_run: Callable[..., Path], scored: Callable[..., Any], tmp_path: Path
) -> None:
    run = write_run("run", scored("dpo", [], 12, facts={"before": 1, "dpo": 9}))
    build_report([run], tmp_path / "report.html", evaluations=[write(tmp_path / "mtbench", RESULT)])
    page = (tmp_path / "report.html").read_text()
    for told in (
        "mtbench · &lt;b&gt;mine&lt;/b&gt;", "judged by gpt-4 at judge.example", "MT-Bench (grade 1 to 10)",
        "<td>7.61</td><td>7.20 to 8.00</td><td>79</td>", "1 without a score: at least 7.50, at most 7.70",
        "graded &lt;once&gt;",
    ):  # fmt: skip
        assert told in page
    build_report([run], tmp_path / "report.html")
    assert "Evaluations" not in (tmp_path / "report.html").read_text()


def items(folder: Path, scores: list[float], asked: str = "same") -> Path:
    rows = [
        {"task": "<i>arc</i>", "id": f"q{n}", "cluster": f"q{n}", "asked": asked, "score": score}
        for n, score in enumerate(scores)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_evaluations_of_one_kind_are_compared_item_by_item(
    write_run: Callable[..., Path], scored: Callable[..., Any], tmp_path: Path
) -> None:
    run = write_run("run", scored("dpo", [], 12, facts={"before": 1, "dpo": 9}))
    base = items(write(tmp_path / "base", RESULT), [0.0] * 20 + [1.0] * 20)
    tuned = items(write(tmp_path / "tuned", RESULT | {"model": "tuned"}), [1.0] * 18 + [0.0] * 4 + [1.0] * 18)
    other = items(write(tmp_path / "other", RESULT | {"model": "other"}), [1.0] * 40, asked="otherwise")
    page = tmp_path / "report.html"
    build_report([run], page, evaluations=[base, tuned, other, write(tmp_path / "alone", RESULT | {"kind": "bench"})])
    text = page.read_text()
    for told in (
        "mtbench · &lt;b&gt;mine&lt;/b&gt; → tuned", "▲ +0.4</span>", "&lt;i&gt;arc&lt;/i&gt;: 2 worse, 18 better",
        "worse: q20, q21</p>", "better: q17, q16, q15, q14, q13, q12, q11, q10 and 10 more</p>",
        "not compared: 40 items of ",
    ):  # fmt: skip
        assert told in text
    assert text.count(" → ") >= 2 and "bench · &lt;b&gt;mine" in text
    build_report([run], page, evaluations=[base])
    assert "The same items under both models" not in page.read_text()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"kind": "x", "model": "y", "tables": [{}]}'])
def test_a_folder_that_holds_no_evaluation_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"evaluation\.json"):
        read_evaluations([write(tmp_path / "x", content)])
    with pytest.raises(RunError, match=r"holds no evaluation\.json"):
        read_evaluations([tmp_path])
