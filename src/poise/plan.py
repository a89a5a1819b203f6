"""Look before training: what a recipe resolves to, what its data come to, how one row is masked."""

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from poise.errors import RecipeError
from poise.names import names_in
from poise.recipe import load_recipe


def plan(path: Path | None, overrides: list[str], *, verb: str | None, with_data: bool) -> dict[str, Any]:
    """Resolve a recipe and, with data, render it; nothing is trained and no weights are loaded."""
    recipe = load_recipe(find_verb(path, verb), path, overrides)
    result: dict[str, Any] = {
        "verb": recipe.verb,
        "recipe": [
            {"section": section, "key": key, "value": value, "origin": str(origin)}
            for section, key, value, origin in recipe.describe()
        ],
        "notes": [{"key": note.key, "place": note.place, "why": note.why} for note in recipe.notes],
    }
    if with_data:
        from poise.train.train import prepare, rows_per_step

        prepared = prepare(recipe)
        facts = prepared.rendered.facts()
        result["data"] = {
            "rows_in": prepared.loaded.rows_in.total(),
            "dropped": dict(Counter(drop.reason for drop in prepared.drops)),
            "rows": facts["rows"],
            "held_out_rows": facts["held_out_rows"],
            "tokens": facts["tokens"],
            "trained_tokens": facts["trained_tokens"],
            "trained_share": facts["trained_tokens"] / facts["tokens"],
            "tokens_if_unshared": facts["tokens_if_unshared"],
        }
        result["training"] = {
            "rows_per_step": rows_per_step(recipe),
            "optimizer_steps": prepared.optimizer_steps(recipe),
            "chat_template": prepared.tokenizer.template_name,
            "stop_tokens": prepared.tokenizer.tokenizer.convert_ids_to_tokens(list(prepared.tokenizer.stop_ids)),
            "notes": list(prepared.tokenizer.notes),
        }
    return result


def mask(path: Path | None, overrides: list[str], *, verb: str | None, number: int) -> tuple[dict[str, Any], Text]:
    """Render a recipe's rows and pick one: its JSON form and its coloured view."""
    from poise.batch.show import mask_json, mask_view
    from poise.train.train import prepare, row_at

    prepared = prepare(load_recipe(find_verb(path, verb), path, overrides))
    row = row_at(prepared, number)
    tokenizer = prepared.tokenizer.tokenizer
    return mask_json(row, tokenizer), mask_view(row, tokenizer)


def print_plan(result: dict[str, Any]) -> None:
    """Show a plan as tables."""
    console = Console()
    table = Table(box=None, pad_edge=False)
    for title in ("section", "key"):
        table.add_column(title, no_wrap=True)
    table.add_column("value", overflow="fold", min_width=16)
    table.add_column("origin", overflow="fold", min_width=16)
    for entry in result["recipe"]:
        value = str(entry["value"])
        shown = value if len(value) <= 60 else value[:57] + "…"
        table.add_row(entry["section"], entry["key"], shown.replace("[", r"\["), entry["origin"])
    console.print(table)
    for note in result["notes"]:
        console.print(f"note  {note['key']} ({note['place']}): {note['why']}", markup=False, highlight=False)
    if "data" in result:
        data, training = result["data"], result["training"]
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in data["dropped"].items()) or "none"
        lines = (
            f"data      {data['rows_in']:,} rows in · {data['rows']:,} to train on, "
            f"{data['held_out_rows']:,} held out · dropped: {dropped}",
            f"tokens    {data['tokens']:,} computed ({data['tokens_if_unshared']:,} without sharing) · "
            f"{data['trained_share']:.0%} trained on",
            f"steps     {training['optimizer_steps']:,} updates of {training['rows_per_step']:,} rows",
            f"template  {training['chat_template']} · stops at {', '.join(training['stop_tokens'])}",
        )
        for line in (*lines, *training["notes"]):
            console.print(line, markup=False, highlight=False)


def find_verb(path: Path | None, verb: str | None) -> str:
    """Take the verb given, else the one a recipe's path names: `zephyr-7b-beta/dpo/config_full.yaml`."""
    verbs = names_in("poise.objectives")
    if verb is not None:
        if verb not in verbs:
            raise RecipeError(f"--verb {verb}: the objectives are {', '.join(verbs)}")
        return verb
    if path is not None:
        parts = [part for name in reversed(path.with_suffix("").parts) for part in name.replace("-", "_").split("_")]
        found = next((part for part in parts if part in verbs), None)
        if found:
            return found
    raise RecipeError(f"which objective? Its name stands neither in the path nor in --verb ({', '.join(verbs)})")
