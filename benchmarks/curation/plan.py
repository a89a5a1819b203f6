"""What is measured: a cell is one arm of one task on so many rows, in a process of its own."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

ARMS = {
    "exact": ("poise", "poise-keys", "poise-road", "bagel"),
    "minhash": ("poise", "poise-after-exact", "poise-road", "datasketch", "text-dedup", "datatrove"),
}
"""`poise` is the step alone on stored rows, `poise-keys` with the keys computed again that loading computed,
`poise-after-exact` both steps on them, `poise-road` all of load, exact, the step and write, from the raw file."""
PEERS = ("bagel", "datasketch", "text-dedup", "datatrove")
SLOW = ("text-dedup", "datatrove")
"""Under 1,000 rows a second; they get --peer-rows."""
MOST_PEER_ROWS = 100_000
"""What the others get at most: datasketch holds a Python object for each row and band."""


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    task: str
    arm: str
    rows: int

    @property
    def is_ours(self) -> bool:
        """Whether it measures poise."""
        return self.arm not in PEERS

    def __str__(self) -> str:
        """Name it in one phrase."""
        return f"{self.task}/{self.arm}/{self.rows:,}"


@dataclass(frozen=True)
class Job:
    """A cell and where its files lie."""

    cell: Cell
    folder: Path

    @property
    def raw(self) -> Path:
        """The folder that holds the raw file and nothing else."""
        return self.folder / "raw"

    @property
    def file(self) -> Path:
        """`{"id": "0", "text": "…"}`, one row a line."""
        return self.raw / "rows.jsonl"

    @property
    def planted(self) -> Path:
        """Kinds and originals of the rows."""
        return self.folder / "planted.json"

    @property
    def stored(self) -> Path:
        """The rows as `poise curate` loads them."""
        return self.folder / "stored"

    @property
    def work(self) -> Path:
        """What this cell alone writes."""
        return self.folder / f"work-{self.cell.task}-{self.cell.arm}"


def plan(tasks: Collection[str], peers: Collection[str], rows: int, peer_rows: int) -> list[Cell]:
    """List the cells, those of one number of rows together; poise's step runs at the rows of every peer, too."""
    cells: list[Cell] = []
    for task in tasks:
        for arm in ARMS[task]:
            if arm not in PEERS:
                cells.append(Cell(task, arm, rows))
            elif arm in peers:
                cells += _beside(task, arm, min(rows, peer_rows if arm in SLOW else MOST_PEER_ROWS))
    return sorted(dict.fromkeys(cells), key=lambda cell: -cell.rows)


def _beside(task: str, peer: str, rows: int) -> Iterator[Cell]:
    yield Cell(task, "poise", rows)
    yield Cell(task, peer, rows)
