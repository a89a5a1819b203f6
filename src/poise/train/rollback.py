"""Go back to a checkpoint from before the losses went wrong, and leave out the rows that came then.

The order of the rows and the number of steps stay as they are, so that a run that is resumed later knows its place: a
row that is left out is replaced by another one, drawn by its id.
"""

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

from poise import progress
from poise.batch.row import Row
from poise.errors import DivergenceError
from poise.run import Run
from poise.train.checkpoint import NAME, Checkpoint, drop_after, newest_checkpoint
from poise.train.guard import GoBack
from poise.train.processes import agreed, main_alone

MOST = 3
"""Times that a run goes back: rows do harm here and there, a learning rate at every turn."""
ROLLBACKS = "rollbacks"
"""In the manifest: from which step to which, why, and the rows that are left out since."""


def roll_back(run: Run, wrong: GoBack) -> Checkpoint:
    """Return the checkpoint to go on from; DivergenceError where there is none, or after the last time."""
    past: list[dict[str, Any]] = run.manifest.get(ROLLBACKS, [])
    if len(past) == MOST:
        raise agreed(_gave_up(wrong, f"this run went back {MOST} times already", "lower learning_rate"))
    folder = run.path / "checkpoints"
    checkpoint = main_alone(lambda: newest_checkpoint(folder, before=wrong.step))
    if checkpoint is None:
        why = f"there is no checkpoint from before step {wrong.step} to go back to"
        raise agreed(_gave_up(wrong, why, "lower learning_rate, or save_steps so that there is one"))

    def settle() -> None:
        drop_after(folder, checkpoint.step)
        places = {row.id: row.place for row in wrong.rows}  # one that stands in for two comes twice
        rows = [{"id": name, "place": place} for name, place in places.items()]
        what = str(wrong).splitlines()[0]
        told = f"{what}; went back to {NAME}{checkpoint.step}, without the {len(rows)} rows of these steps"
        run.update_manifest(
            **{ROLLBACKS: [*past, {"to": checkpoint.step, "what": what, "rows": rows}]},
            warnings=[*run.manifest.get("warnings", []), told],
        )
        progress.say(f"warning: {told}\n" + "\n".join(str(wrong).splitlines()[1:]))

    main_alone(settle)
    return checkpoint


def left_out(run: Run) -> set[str]:
    """Return the ids of all rows that this run leaves out by now."""
    return {row["id"] for each in run.manifest.get(ROLLBACKS, []) for row in each["rows"]}


def stand_in(rows: Sequence[Row], index: int, skipped: Collection[str]) -> Row:
    """Return the row at a place, or the one that takes the place of a row that is left out."""
    row = rows[index]
    if row.id not in skipped:
        return row
    first = int.from_bytes(hashlib.sha256(row.id.encode()).digest()[:8], "big")
    places = ((first + further) % len(rows) for further in range(len(rows)))
    found = next((rows[place] for place in places if rows[place].id not in skipped), None)
    if found is None:
        raise DivergenceError("every row was in a step that went wrong\n    to do:  lower learning_rate")
    return found


def _gave_up(wrong: GoBack, why: str, remedy: str) -> DivergenceError:
    return DivergenceError(f"{wrong}\n    why:    {why}, so training stops before this update\n    to do:  {remedy}")
