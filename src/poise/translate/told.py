"""Tell a translation to a person: the recipe on stdout or its place, both lists on stderr."""

import sys
from typing import Any

import click


def told(result: dict[str, Any]) -> None:
    """Print the recipe, then what was not carried over and what would have gone wrong."""
    if result["out"] is None:
        click.echo(result["recipe"], nl=False)
    say = [f"{result['tool']} -> poise {result['verb']}: {len(result['settings'])} settings"]
    if result["not_mapped"]:
        say += ["", f"not carried over: {len(result['not_mapped'])}"]
        say += [f"  {each['key']}: {each['why']}" for each in result["not_mapped"]]
    if result["would_have_gone_wrong"]:
        say += ["", f"what would have gone wrong: {len(result['would_have_gone_wrong'])}"]
        say += [f"  {risk}" for risk in result["would_have_gone_wrong"]]
    if result["out"]:
        say += ["", f"written to {result['out']}; look first: poise plan {result['out']} --verb {result['verb']}"]
    click.echo("\n".join(say), file=sys.stderr)
