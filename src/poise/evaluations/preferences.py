"""Score held-out pairs: which answer a model finds likelier, its rewards and margins, and what fell."""

import json
from pathlib import Path
from typing import Any

import click

from poise.evaluations import _options as options

PARAMETERS = [
    options.option(
        "--model", required=True, metavar="MODEL", help="A run, a model or adapter folder, or a Hub id."
    ),
    options.option(
        "--data", metavar="DATA", help="A file, folder or Hub id of pairs; what the run held out by default.",
    ),
    options.option("--split", help="Which split of --data; test where there is one, else every row."),
    options.option(
        "--reference", metavar="MODEL",
        help="What rewards are measured from; the run's own, or an adapter's base, by default.",
    ),
    options.option("--method", metavar="NAME", help="Whose rewards: dpo, orpo, simpo, …; the run's own by default."),
    options.option("--beta", type=click.FloatRange(min=0, min_open=True), help="Scale of the rewards; the run's."),
    options.option("--chat-template", help="For a model without one: a name (chatml, zephyr, …) or a .jinja file."),
    options.option("--max-length", type=options.AT_LEAST_ONE, help="Longer pairs are left out; the run's by default."),
    options.option("--out", type=options.FOLDER, help="The folder to write; evaluations/preferences/MODEL by default."),
]  # fmt: skip
PAIRS = "pairs.jsonl"


def run(
    *,
    model: str,
    data: str | None,
    split: str | None,
    reference: str | None,
    method: str | None,
    beta: float | None,
    chat_template: str | None,
    max_length: int | None,
    out: Path | None,
) -> dict[str, Any]:
    """Score, write; returns what `--json` prints."""
    from poise.evaluate.mtbench_files import file_name
    from poise.subject import choose_objective, open_subject, read_pairs

    subject = open_subject(model, chat_template)
    other = open_subject(reference, chat_template) if reference else None
    pairs = read_pairs(subject, data, split)
    from poise.answering import claimed
    from poise.evaluate import preferences
    from poise.evaluate.result import Result
    from poise.run import write_whole
    from poise.scoring import is_measured, score_pairs, tell_left_out

    named, objective = choose_objective(subject, method, beta, measured=is_measured(subject, reference))
    with claimed(out or Path("evaluations") / "preferences" / file_name(model)) as folder:
        scored = score_pairs(subject, pairs, objective, reference=other, max_length=max_length)
        left_out = tell_left_out([*pairs.drops, *scored.drops], pairs.rows_in)
        result = Result(
            kind="preferences",
            model=model,
            tables=preferences.tables(scored.pairs, _shown(named, objective, scored.reference)),
            items=preferences.items(scored.pairs, named, _measured(objective, scored.reference_sha256)),
            notes=[*([left_out] if left_out else []), *preferences.notes(scored.pairs), *scored.notes],
            settings={
                "method": named,
                "objective": objective.model_dump() if objective else {},
                "reference": scored.reference,
                "reference_sha256": scored.reference_sha256,
                "data": pairs.described,
                "model_sha256": scored.policy_sha256,
                "chat_template": scored.chat_template,
            },
            figures=preferences.figures(scored.pairs),
        )
        write_whole(folder / PAIRS, "".join(json.dumps(preferences.flat(pair)) + "\n" for pair in scored.pairs))
        result.write(folder)
    return result.as_json(folder)


def told(result: dict[str, Any]) -> str:
    """Show the tables."""
    from poise.evaluate.result import told as tables

    return tables(result)


def _measured(objective: Any, reference_sha256: str | None) -> list[Any]:
    """Return what must be equal for two models' rewards to be compared."""
    scale = [getattr(objective, key, None) for key in ("beta", "ld_alpha")]
    return [*scale, reference_sha256 if objective and objective.needs_reference else None]


def _shown(name: str, objective: Any, reference: str) -> str:
    """Say of rewards how they are made: `dpo, beta 0.1, from the base, the adapter switched off`."""
    beta = getattr(objective, "beta", None)
    scale = "" if beta is None else f", beta {beta:g}"
    return f"{name}{scale}" + (f", from {reference}" if reference and objective and objective.needs_reference else "")
