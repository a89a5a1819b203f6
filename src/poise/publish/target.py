"""Where something is published: `hub:OWNER/NAME` or `folder:PATH`."""

import re
from dataclasses import dataclass
from pathlib import Path

from poise.errors import RecipeError

REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True)
class Target:
    """A repository of the Hub, or a folder."""

    name: str
    is_folder: bool

    def __str__(self) -> str:
        """Write it as it was given."""
        return f"{'folder' if self.is_folder else 'hub'}:{self.name}"

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self.name).expanduser()


def read_target(text: str) -> Target:
    """Read `--to`; RecipeError where it is neither."""
    kind, colon, name = text.partition(":")
    if kind == "folder" and name:
        return Target(name, is_folder=True)
    plain = ".." not in name and "--" not in name and not name.endswith((".git", ".", "-"))
    if kind == "hub" and REPOSITORY.fullmatch(name) and plain:
        return Target(name, is_folder=False)
    what = f"{name!r} is no name of a repository" if kind == "hub" and colon else f"{text!r} is no target"
    raise RecipeError(f"--to: {what}\n    to do:  --to hub:OWNER/NAME, or --to folder:PATH")
