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


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"kind": "x", "model": "y", "tables": [{}]}'])
def test_a_folder_that_holds_no_evaluation_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"evaluation\.json"):
        read_evaluations([write(tmp_path / "x", content)])
    with pytest.raises(RunError, match=r"holds no evaluation\.json"):
        read_evaluations([tmp_path])
