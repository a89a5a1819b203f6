"""How counts of rows and lengths read, on the page and on the terminal."""

from typing import Any

from poise.report.wording import count


def rows_of(number: int) -> str:
    """Write 1200 as `1,200 rows`."""
    return "1 row" if number == 1 else f"{count(number)} rows"


def lengths_of(found: dict[str, Any]) -> str:
    """Write what a histogram cannot be read off for exactly: `median 12, 95 % up to 14, longest 99`."""
    return f"median {count(found['median'])}, 95 % up to {count(found['p95'])}, longest {count(found['longest'])}"
