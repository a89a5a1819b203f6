"""The guard of a run: looks at every loss and gradient norm before the update, and says what becomes of the run.

What is no number stops it, or sends it back to a checkpoint; so does a loss that has gone wrong, see `divergence`. The
rows of the step are named and kept for replay. It reads numbers that are on the CPU already.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from poise import progress
from poise.batch.row import Row
from poise.errors import DivergenceError
from poise.run import REPLAY, Run
from poise.train.divergence import RISING, Finding, Watch
from poise.train.processes import agreed, is_main
from poise.train.replay import Decode, keep_batch

OnDivergence = Literal["stop", "rollback", "warn"]
SPIKES_TOLD = 3
"""Single steps that are told and kept; later ones are hard rows of the same kind."""
ROWS_NAMED = 8


class GoBack(Exception):  # noqa: N818 - not an error where there is a checkpoint to go back to
    """Training is to go on from before `step`, without these rows."""

    def __init__(self, message: str, step: int, rows: Sequence[Row]) -> None:
        super().__init__(message)
        self.step, self.rows = step, rows


class Guard:
    """Judge the numbers of one run."""

    def __init__(
        self,
        run: Run,
        on_divergence: OnDivergence = "stop",
        *,
        watch: Watch | None = None,
        decode: Decode | None = None,
    ) -> None:
        """Take what to do, and what to judge finite losses by; without a Watch only what is no number is wrong."""
        self.run, self.on_divergence, self.watch, self.decode = run, on_divergence, watch, decode
        self._trail: deque[Sequence[Row]] = deque(maxlen=RISING)
        self._spikes = self._warned = 0

    def loss(self, step: int, loss: float, rows: Sequence[Row]) -> None:
        """Check the loss of the step that is about to be made, numbered from 1."""
        self._trail.append(rows)
        if not math.isfinite(loss):
            self._not_finite("loss", step, loss, rows)
        finding = self.watch.see(loss) if self.watch else None
        if finding is None:
            return
        if not finding.is_divergence:
            self._tell_spike(step, finding, rows)
        elif self.on_divergence == "warn":
            self._warn(step, finding, rows)
        else:
            self._leave(_gone_wrong(step, finding), step, finding.steps, self._suspects(finding), _facts(finding))

    def gradient_norm(self, step: int, norm: float, rows: Sequence[Row]) -> None:
        """Check the norm of the gradient, before clipping."""
        if not math.isfinite(norm):
            self._not_finite("gradient norm", step, norm, rows)

    def held_out(self, step: int, loss: float, rows: Sequence[Row]) -> None:
        """Check the loss of held-out rows after an update; not in step with other processes."""
        if math.isfinite(loss):
            return
        kept = self._keep(step, rows, {"what": "held-out loss", "value": str(loss)})
        raise DivergenceError(
            f"after step {step}: the held-out loss is {loss}. No model is saved; the newest checkpoint stays\n"
            f"{_named(rows)}{kept}\n    to do:  {_look(self.run)}"
        )

    def weights(self, step: int, parameters: Iterable[tuple[str, Tensor]], rows: Sequence[Row]) -> None:
        """Check what an update has made of the weights, before they are saved."""
        broken = [name for name, weight in parameters if not bool(weight.isfinite().all())]
        if broken:
            kept = self._keep(step, rows, {"what": "weights", "value": broken[0]})
            raise DivergenceError(
                f"step {step}: this update left weights that are not finite: {broken[0]}"
                f"{f' and {len(broken) - 1} more' if len(broken) > 1 else ''}. They are not saved; the newest "
                f"checkpoint stays\n{_named(rows)}{kept}\n    to do:  lower learning_rate, or {_look(self.run)}"
            )

    @property
    def is_doubtful(self) -> bool:
        """Whether the newest weights may be worse than those of older checkpoints."""
        return self.watch is not None and self.watch.is_doubtful

    def state(self) -> dict[str, Any]:
        """Return what later judgements depend on, for a checkpoint."""
        return {"watch": self.watch.state() if self.watch else None, "spikes": self._spikes, "warned": self._warned}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._spikes, self._warned = state["spikes"], state["warned"]
        if self.watch and state["watch"]:
            self.watch.take_up(state["watch"])
        self._trail.clear()

    def _not_finite(self, what: str, step: int, value: float, rows: Sequence[Row]) -> None:
        message = f"step {step}: the {what} is {value}"
        self._leave(message, step, 1, rows, {"what": what, "value": str(value)})

    def _leave(self, message: str, step: int, steps: int, rows: Sequence[Row], facts: dict[str, Any]) -> None:
        kept = self._keep(step, rows, facts)
        if self.on_divergence == "rollback":
            raise GoBack(f"{message}\n{_named(rows)}{kept}", max(1, step - steps + 1), rows)
        raise agreed(
            DivergenceError(
                f"{message}. Stopped before the update, so the weights are those of step {step - 1}; nothing after the "
                f"newest checkpoint is saved\n{_named(rows)}{kept}\n"
                f"    to do:  lower learning_rate, or {_look(self.run)}; in float16, use bfloat16; "
                "on_divergence=rollback goes back and leaves these rows out"
            )
        )

    def _tell_spike(self, step: int, finding: Finding, rows: Sequence[Row]) -> None:
        self._spikes += 1
        if self._spikes > SPIKES_TOLD:
            return
        kept = self._keep(step, rows, _facts(finding))
        last = "\n    later ones are not told" if self._spikes == SPIKES_TOLD else ""
        told = f"step {step}: the loss is {finding.loss:.4g}, where {finding.usual:.4g} is usual"
        progress.say(f"note: {told}\n{_named(rows)}{kept}{last}")

    def _warn(self, step: int, finding: Finding, rows: Sequence[Row]) -> None:
        self._warned += 1
        if self._warned > 1:
            return
        message = _gone_wrong(step, finding)
        kept = self._keep(step, rows, _facts(finding))
        progress.say(f"warning: {message}; on_divergence=warn goes on\n{_named(rows)}{kept}")
        if is_main():
            self.run.update_manifest(warnings=[*self.run.manifest.get("warnings", []), message])

    def _suspects(self, finding: Finding) -> list[Row]:
        return [row for rows in list(self._trail)[-min(finding.steps, RISING) :] for row in rows]

    def _keep(self, step: int, rows: Sequence[Row], facts: dict[str, Any]) -> str:
        if not is_main():
            return ""
        recent = {"recent_losses": list(self.watch.recent)} if self.watch else {}
        file = keep_batch(self.run, step, rows, facts | recent, self.decode)
        return f"\n    kept:   {file}"


def _gone_wrong(step: int, finding: Finding) -> str:
    if finding.kind == "explosion":
        seen = f"the loss is {finding.loss:.4g} and was above {finding.limit:.4g} for {finding.steps} steps"
    else:
        seen = f"the loss rose to {finding.loss:.4g}, the median of {RISING} steps"
    return f"step {step}: training diverges: {seen}, where {finding.usual:.4g} was usual"


def _facts(finding: Finding) -> dict[str, Any]:
    return {"what": finding.kind, "value": finding.loss, "usual": finding.usual, "limit": finding.limit}


def _named(rows: Sequence[Row]) -> str:
    shown = ", ".join(f"{row.id} ({row.place})" for row in rows[:ROWS_NAMED])
    more = f" and {len(rows) - ROWS_NAMED} more" if len(rows) > ROWS_NAMED else ""
    return f"    rows:   {shown}{more}"


def _look(run: Run) -> str:
    return f"look at the rows kept in {run.path / REPLAY}"
