"""The facts of a look for a terminal, at most 100 columns wide; texts of rows are escaped and cut to one line.

tokens, combined: median 12, 95 % up to 14, longest 99
  ▁ █│  and 2 longer
  0 15
    ^ cut 11
"""

from collections.abc import Sequence
from typing import Any

from poise.look.shown import Turn, beginning
from poise.look.wording import lengths_of, rows_of
from poise.report.wording import count, percent

WIDTH, SOURCES, TURNS = 100, 8, 4
"""Columns, and of how many sources an example is shown, with how many turns."""
BLOCKS = " ▁▂▃▄▅▆▇█"
DROP_WIDTH = 16


def told(facts: dict[str, Any]) -> str:
    """Write the facts that `look` returns."""
    lines = [
        *_rows(facts),
        *_lengths(facts),
        *_drops(facts["dropped"]),
        *_clusters(facts["clusters"]),
        *_examples(facts["examples"]),
    ]
    return "\n".join([*(_line(line).rstrip() for line in lines), "", f"page: {_escaped(facts['page'])}"])


def _rows(facts: dict[str, Any]) -> list[str]:
    used = f"used {count(facts['counts']['used'])} of {rows_of(facts['counts']['in'])} read"
    return [
        f"{facts['dataset']}: {rows_of(facts['rows'])} · {used}",
        "",
        "rows",
        *(f"  {kind}: {_splits(splits)}" for kind, splits in facts["by_kind"].items()),
        *(f"  {count(each['rows']):>11}  {name}  {_kinds(each)}" for name, each in facts["by_source"].items()),
    ]


def _splits(splits: dict[str, int]) -> str:
    return ", ".join(f"{split} {count(rows)}" for split, rows in splits.items())


def _kinds(source: dict[str, Any]) -> str:
    return "; ".join(f"{kind} {_splits(splits)}" for kind, splits in source["kinds"].items())


def _lengths(facts: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for unit, parts in facts["lengths"].items():
        for part, found in parts.items():
            lines += ["", *_histogram(f"{unit}, {part}", found)]
    if facts["counted_by"]:
        lines.append(f"  tokens by {facts['counted_by']}")
    if facts["turns"]:
        lines += ["", *_histogram("turns without the system prompt", facts["turns"]), _system(facts["system"])]
    return lines


def _histogram(title: str, found: dict[str, Any]) -> list[str]:
    most, end = max(found["counts"]), count(found["edges"][-1])
    bars = "".join(BLOCKS[-(-8 * rows // most) if most else 0] for rows in found["counts"])
    longer = f"  and {count(found['longer'])} longer" if found["longer"] else ""
    lines = [
        f"{title}: {lengths_of(found)}",
        f"  {bars}│{longer}",
        f"  0{end:>{max(len(bars), len(end) + 1)}}",
    ]
    if found["cut"] is not None:
        at = found["cut"] // (found["edges"][1] - found["edges"][0])
        lines.append(f"  {' ' * at}^ cut {count(found['cut'])}")
    return lines


def _system(system: dict[str, int]) -> str:
    share = percent(system["with"] / system["of"])
    return f"  with a system prompt: {count(system['with'])} of {count(system['of'])}, {share}"


def _drops(dropped: Sequence[dict[str, Any]]) -> list[str]:
    if not dropped:
        return []
    most = max(each["rows"] for each in dropped)
    bars = ["█" * -(-DROP_WIDTH * each["rows"] // most) for each in dropped]
    lines = [
        f"  {count(each['rows']):>11}  {bar:<{DROP_WIDTH}}  {each['stage']}: {each['reason']}"
        for each, bar in zip(dropped, bars, strict=True)
    ]
    return ["", "dropped", *lines]


def _clusters(clusters: dict[str, Any] | None) -> list[str]:
    if not clusters or not clusters["clusters"]:
        return []
    lost = f"{rows_of(clusters['rows'])} lost to others, clusters: {count(clusters['clusters'])}; most to"
    largest = [
        f"  {count(each['rows']):>11}  {each['kept']['id']}  {_turn(beginning(each['kept']['turns'] or ()))}"
        for each in clusters["largest"]
    ]
    return ["", f"duplicates: {lost}", *largest]


def _examples(examples: dict[str, list[dict[str, Any]]]) -> list[str]:
    if not examples:
        return []
    lines = ["", "examples"]
    for first, *_ in list(examples.values())[:SOURCES]:
        lines += [f"  {first['id']}", *(f"    {_turn(turn)}" for turn in first["turns"][:TURNS])]
    left = len(examples) - SOURCES
    return [*lines, f"  of {left} more sources on the page"] if left > 0 else lines


def _turn(turn: Turn | None) -> str:
    return "" if turn is None else f"{turn['who']}: {' '.join(turn['text'].split())}"


def _line(text: str) -> str:
    shown = _escaped(text)
    return shown if len(shown) <= WIDTH else f"{shown[: WIDTH - 1]}…"


def _escaped(text: str) -> str:
    """Escape what a row could do to a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
