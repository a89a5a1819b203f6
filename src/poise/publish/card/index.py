"""`model-index`: the scores of a card in the form that the Hub reads, by huggingface_hub's own EvalResult."""

import re
from collections.abc import Sequence
from typing import Any

from poise.report.scores import scored_sets
from poise.report.stage import Stage
from poise.report.wording import is_number

TASK = "text-generation"


def eval_results(last: Stage | None, evaluations: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the last model's score on every question set, and every number of `poise evaluate`, with its interval."""
    from huggingface_hub import EvalResult

    found: list[Any] = []
    label = last.labels[-1] if last and last.labels else None
    for one in scored_sets(last.evidence, last.samples) if last else []:
        score = one.scores.get(str(label))
        if score is not None:
            low, high = score.interval
            found.append(
                EvalResult(
                    task_type=TASK, dataset_type=slug(one.name), dataset_name=plain(one.title), metric_type="accuracy",
                    metric_name="share of answers that are right", metric_value=round(score.share, 6),
                    metric_args={"n": score.n, "low_95": round(low, 6), "high_95": round(high, 6)},
                )
            )  # fmt: skip
    for evaluation in evaluations:
        for table in evaluation["tables"]:
            found += [
                _result(evaluation, table, line) for line in table["lines"] if is_number(line["estimate"]["value"])
            ]
    return found


def _result(evaluation: dict[str, Any], table: dict[str, Any], line: dict[str, Any]) -> Any:
    from huggingface_hub import EvalResult

    estimate = line["estimate"]
    bounds = {
        name: round(estimate[key], 6)
        for name, key in (("low_95", "low"), ("high_95", "high"))
        if is_number(estimate[key])
    }
    return EvalResult(
        task_type=TASK, dataset_type=slug(f"{evaluation['kind']}-{table['title']}"), dataset_name=plain(table["title"]),
        metric_type=slug(line["name"]), metric_name=plain(f"{line['name']} ({table['unit']})"),
        metric_value=round(estimate["value"], 6), metric_args={"n": int(estimate["n"]), **bounds},
    )  # fmt: skip


def slug(text: str) -> str:
    """Write a name with letters, digits and hyphens alone."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:96] or "unnamed"


def plain(text: str) -> str:
    """Write a text without what a page could take for markup."""
    return re.sub(r"[<>&\x00-\x1f]+", " ", text).strip()[:200]
