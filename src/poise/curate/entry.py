"""An entry of `sources`: where rows come from, how far they are trusted, and how many of them are wanted."""

from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from poise.names import load_named
from poise.recipe_faults import UNKNOWN
from poise.sources.dataset import About

HIGHEST = 99
"""Confidence of rows that are held out."""


class SourceEntry(BaseModel):
    """One source. Keys beside these are the options of the catalog file that `source` names."""

    model_config = ConfigDict(frozen=True, extra="allow")

    source: str | None = None
    """A file of poise.catalog; without one, the columns say what the rows are."""
    path: str | None = None
    """A file or folder with the dataset's files, or a Hub id; the catalog's own Hub id where it is not given."""
    name: str | None = None
    """What the source is called in every count; `source`, or the path's last part, by default."""
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    """Branch, tag or commit on the Hub; the commit it meant is kept in the manifest."""
    columns: tuple[str, ...] | None = None
    """Look at these columns only, where their names say what the rows are."""
    against: str | None = None
    """The second dataset, for a source that compares two."""
    confidence: int | None = Field(default=None, ge=0, lt=HIGHEST)
    """Of rows with one question those of the highest confidence win; the catalog's value by default, else 2."""
    accept_risk: bool = False
    """Whether a source that must be asked for by name may be used."""
    on_bad_row: Literal["error", "drop"] = "error"
    case_matters: bool = False
    """Whether questions that differ in case alone are two, as in code."""
    count: int | None = Field(default=None, gt=0)
    """Keep so many rows of those that all steps have left, chosen by hash."""
    fraction: float | None = Field(default=None, gt=0, le=1)
    """Keep this share of them."""
    stratify: str | None = None
    """A column of the raw rows; `count` and `fraction` keep its shares."""
    held_out: bool = False
    """Whether all of it goes to the test split, as a published test split should: its rows win over equal ones, and
    every row that begins with one of its questions is dropped."""
    repeat: float = Field(default=1.0, gt=0)
    """Write each row so many times; 2.5 is twice, and a third time for half of them."""

    @model_validator(mode="after")
    def _one_source(self) -> "SourceEntry":
        if self.source is None and self.path is None:
            raise ValueError("a source needs `source` (a name of the catalog) or `path`")
        if self.count is not None and self.fraction is not None:
            raise ValueError("count and fraction say the same thing; keep one")
        if self.held_out and (self.count is not None or self.fraction is not None or self.repeat != 1):
            raise ValueError("held_out takes the whole test split once; leave count, fraction and repeat out")
        if self.stratify is not None and self.source is None:
            raise ValueError("stratify reads a column of a catalog source's rows; name the `source`")
        if self.stratify is not None and self.count is None and self.fraction is None:
            raise ValueError("stratify keeps shares while sampling; give count or fraction")
        if self.source is not None and self.columns is not None:
            raise ValueError("columns are read where the rows' shape is recognised; a catalog source knows its own")
        if self.source is None and self.options:
            raise ValueError(f"{UNKNOWN} {next(iter(self.options))!r}")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Keys of the catalog file's own."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def label(self) -> str:
        """What it is called in every count."""
        return label_of(self.name, self.source, self.path)

    @property
    def catalogued(self) -> ModuleType:
        """The catalog file, of an entry that names one."""
        return load_named("poise.catalog", str(self.source))

    @property
    def about(self) -> About | None:
        """What the catalog says of the dataset."""
        return None if self.source is None else self.catalogued.ABOUT

    @property
    def against_about(self) -> About | None:
        """What it says of the second dataset, for a source that compares two."""
        return None if self.source is None else getattr(self.catalogued, "AGAINST", None)

    @property
    def trust(self) -> int:
        """Confidence, the catalog's where the recipe gives none."""
        if self.held_out:
            return HIGHEST
        if self.confidence is not None:
            return self.confidence
        return self.about.confidence if self.about else 2


def label_of(name: str | None, source: str | None, path: str | None) -> str:
    """Return what a source is called: its name, else the catalog's, else the last part of a path that is there."""
    local = Path(path) if path else None
    return name or source or (local.name if local and local.exists() else str(path))
