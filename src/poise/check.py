"""May this recipe run? Every check that needs no weights, on the recipe's own rows, within seconds.

`poise plan` says what a run would do; `poise check` says whether it should. A training command checks by itself.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from poise.errors import DataError, ModelError, PoiseError, RecipeError
from poise.plan import find_verb
from poise.preflight.finding import Finding
from poise.preflight.preflight import preflight, that_stop
from poise.recipe import Recipe, load_recipe

ROWS = 2_000
"""Rows that are rendered unless all are asked for: a share of 1 % is then known within half a point."""


def check(
    path: Path | None,
    overrides: list[str],
    *,
    verb: str | None,
    all_rows: bool = False,
    configuration: Path | None = None,
) -> dict[str, Any]:
    """Return the findings of a recipe as plain data, errors first; what stops at once is a finding too.

    `configuration` is the file of accelerate that would launch the training.
    """
    began = time.monotonic()
    try:
        recipe = load_recipe(find_verb(path, verb), path, overrides)
    except RecipeError as error:
        found, ignored = Found([as_finding(error)]), []
    else:
        found, ignored = _look(recipe, None if all_rows else ROWS), recipe.poise.ignore
        found.findings[:0] = _launching(recipe, configuration)
    return {
        "ok": not that_stop(found.findings, ignored),
        "findings": [finding.to_json() | {"ignored": finding.code in ignored} for finding in found.findings],
        "told": [str(finding) for finding in found.findings if finding.code not in ignored],
        "rows_rendered": found.rows_rendered,
        "lengths": found.lengths,
        "seconds": round(time.monotonic() - began, 1),
    }


@dataclass(frozen=True)
class Found:
    """What a look at a recipe and its rows gives."""

    findings: list[Finding]
    rows_rendered: int = 0
    lengths: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    """What each candidate max_length would lose."""


def _look(recipe: Recipe, rows: int | None) -> Found:
    """Render at most so many rows and run every check; where rows cannot be had, the checks that need none."""
    from poise.preflight.lengths import candidates, losses
    from poise.train.model import quiet_libraries
    from poise.train.preflight import known, known_without_rows
    from poise.train.prepare import prepare

    quiet_libraries()
    try:
        facts = known(recipe, prepare(recipe, at_most=rows))
    except (RecipeError, DataError, ModelError) as error:
        return Found([as_finding(error), *preflight(known_without_rows(recipe))])
    number = len(facts.lengths)
    lengths = [
        {"max_length": limit, "rows_lost": lost / max(1, number), "trained_tokens_lost": tokens}
        for limit, lost, tokens in losses(facts.lengths, candidates(facts))
    ]
    return Found(preflight(facts), number, lengths)


def _launching(recipe: Recipe, configuration: Path | None) -> list[Finding]:
    """Say where the recipe cannot be trained by a configuration of accelerate."""
    if configuration is None:
        return []
    from poise.launch import sound_configuration

    try:
        sound_configuration(configuration, recipe)
    except RecipeError as error:
        return [as_finding(error)]
    return []


def as_finding(error: PoiseError) -> Finding:
    """Turn what stopped the reading of a recipe, its data or its tokenizer into a finding."""
    what, _, remedy = str(error).partition("\n    to do:")
    return Finding(error.code, what, remedy.strip())


def print_check(result: dict[str, Any]) -> None:
    """Show findings, what each length would lose, and one line of sums."""
    console = Console()

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    for told in result["told"]:
        line(told)
    if result["lengths"]:
        line("max_length   rows lost   trained tokens lost")
        for each in result["lengths"]:
            line(f"{each['max_length']:>10,}   {each['rows_lost']:>9.1%}   {each['trained_tokens_lost']:>19.1%}")
    counts = Counter(each["severity"] for each in result["findings"] if not each["ignored"])
    ignored = sum(each["ignored"] for each in result["findings"])
    sums = [f"{counts[each]} {each}{'' if counts[each] == 1 else 's'}" for each in ("error", "warning", "note")]
    told = f" · {ignored} ignored" if ignored else ""
    of = f" · {result['rows_rendered']:,} rows rendered" if result["rows_rendered"] else ""
    line(f"{'may run' if result['ok'] else 'must not run'}: {', '.join(sums)}{told}{of} · {result['seconds']} s")
