"""Options of a benchmark that take several of a fixed list."""

import argparse
from collections.abc import Callable, Sequence


def among(what: str, choices: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a reader of comma-separated choices."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in choices:
                raise argparse.ArgumentTypeError(f"no {what} {name!r}; there are {', '.join(choices)}")
        return names

    return read
