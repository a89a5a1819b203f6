"""Rows joined pair by pair into clusters (union-find)."""


class Clusters:
    """Clusters of the rows 0, 1, …; the smallest row of each is its label."""

    def __init__(self, rows: int) -> None:
        self._above = list(range(rows))

    def join(self, one: int, other: int) -> None:
        """Put two rows into one cluster."""
        one, other = self._top(one), self._top(other)
        self._above[max(one, other)] = min(one, other)

    def labels(self) -> list[int]:
        """Return the label of every row."""
        return [self._top(row) for row in range(len(self._above))]

    def _top(self, row: int) -> int:
        above = self._above
        while above[row] != row:
            above[row] = row = above[above[row]]
        return row
