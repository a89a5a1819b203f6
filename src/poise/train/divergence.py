"""Divergence: tell from the losses alone that training has gone wrong, one loss at a time, before each update.

A loss is judged by the sound ones before it. What is flagged never enters that window: a window that takes everything
in learns the explosion and calls it normal.

    spike       above median + 8 MAD of the last 20 sound losses, and half as high again as where training began
    explosion   3 of those in a row
    rise        the median of the last 10 losses is above the best level so far by 4 MAD and half of what was learned,
                and all but one of them are above three quarters of the losses then; or 9 of them are above it by 5 MAD
                and a quarter of what was learned
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

WINDOW = 20
"""Sound losses that the next one is judged by."""
ENOUGH = 10
"""Fewer are too few to know how much losses differ from step to step; until then only an explosion is told."""
BAND = 8.0
"""Median absolute deviations; 30 sound runs of sft, dpo and orpo had three losses in a row above it in none."""
RISE_BAND, RISE_SHARE = 4.0, 1 / 2
"""MAD and share of what was learned, of a median of ten; it varies by 0.6 MAD."""
ALL_BAND, ALL_SHARE = 5.0, 1 / 4
"""The same where all losses but one are as high."""
LEAST_DEVIATION = 0.05
"""Of the level and of the scale: losses that hardly differ from step to step may still move by 8 times this."""
IN_A_ROW = 3
"""Spikes that are an explosion: one or two are hard rows."""
RISING = 10
"""Losses whose median is the level now."""
TOKEN_SCALE = 2.0
"""Nats by which the mean loss of a step's tokens may differ from where it began, at least: a first step can be easy."""

Kind = Literal["spike", "explosion", "rise"]


@dataclass(frozen=True)
class Finding:
    """What a loss gave away."""

    kind: Kind
    loss: float
    usual: float
    """The level it is compared with."""
    limit: float
    steps: int
    """How many of the last steps show it."""

    @property
    def is_divergence(self) -> bool:
        """Whether training has gone wrong, not one step."""
        return self.kind != "spike"


class Watch:
    """Judge the losses of a run in their order."""

    def __init__(self, guess: float | None = None) -> None:
        """Take the loss of guessing, ln(vocabulary), where a loss is a mean over tokens.

        Otherwise None: a loss that compares with a reference begins at a level that is known without noise.
        """
        self.guess = guess
        self.start: float | None = None
        self.sound: deque[float] = deque(maxlen=WINDOW)
        self.recent: deque[float] = deque(maxlen=RISING)
        self.spikes = 0
        """In a row, up to the last loss."""
        self.best: tuple[float, float, float] | None = None
        """Lowest median of a full window, and that window's deviation and upper quartile."""
        self.since_best = 0
        """Losses since then."""

    def see(self, loss: float) -> Finding | None:
        """Take the next loss in, and say what is wrong with it, if anything is."""
        if self.start is None:
            self.start = loss
        self.recent.append(loss)
        self.since_best += 1
        usual, limit = self._band()
        if loss > limit:
            self.spikes += 1
        else:
            self.spikes = 0
            self._take(loss)
        high = max(limit, self.start + self.scale / 2)
        if self.spikes >= IN_A_ROW and min(list(self.recent)[-IN_A_ROW:]) > high:
            return Finding("explosion", loss, usual, high, self.spikes)
        level, usual_level, risen = self._rise()
        if level > risen and (level > self.start + self.scale or (self.best and self._all_high(self.best[2]))):
            return Finding("rise", level, usual_level, risen, self.since_best)
        if self.best is not None and self._all_high(self._all_limit(*self.best)):
            return Finding("rise", level, self.best[0], self._all_limit(*self.best), self.since_best)
        return Finding("spike", loss, usual, high, self.spikes) if loss > high else None

    @property
    def is_doubtful(self) -> bool:
        """Whether the last loss was a spike, or the level is half way to a rise."""
        level, usual, risen = self._rise()
        return self.spikes > 0 or level > (usual + risen) / 2

    @property
    def scale(self) -> float:
        """How much a loss of this run is, in nats."""
        return max(abs(self.start or 0.0), 0.1 if self.guess is None else TOKEN_SCALE)

    def _take(self, loss: float) -> None:
        self.sound.append(loss)
        if len(self.sound) == WINDOW:
            level, deviation = self._level(self.sound)
            if self.best is None or level < self.best[0]:
                upper = sorted(self.sound)[-(WINDOW // 4)]
                self.best, self.since_best = (level, deviation, upper), 0

    def _band(self) -> tuple[float, float]:
        """Return the usual loss and the highest that is not a spike."""
        start = self.start or 0.0
        if len(self.sound) < ENOUGH:
            limit = start + 2 * self.scale
            return start, limit if self.guess is None else min(limit, 1.25 * max(start, self.guess))
        level, deviation = self._level(self.sound)
        return level, level + BAND * deviation

    def _rise(self) -> tuple[float, float, float]:
        """Return the level now, the best one, and the one from which it is a rise."""
        start = self.start or 0.0
        usual, limit = start, start + self.scale
        if self.best is not None:
            level, deviation, _ = self.best
            above = level + max(RISE_BAND * deviation, RISE_SHARE * (start - level))
            usual, limit = (level, above) if above < limit else (usual, limit)
        return median(self.recent) if len(self.recent) == RISING else -math.inf, usual, limit

    def _all_limit(self, level: float, deviation: float, _: float) -> float:
        return level + max(ALL_BAND * deviation, ALL_SHARE * ((self.start or 0.0) - level))

    def _all_high(self, level: float) -> bool:
        """Whether all of the last losses but one are above a level: where some are seldom high, they are so by much."""
        return len(self.recent) == RISING and sorted(self.recent)[1] > level

    def _level(self, losses: deque[float]) -> tuple[float, float]:
        """Return the median and the median absolute deviation, the latter not below its least."""
        level = median(losses)
        deviation = median(abs(loss - level) for loss in losses)
        return level, max(deviation, LEAST_DEVIATION * abs(level), LEAST_DEVIATION * self.scale)

    def state(self) -> dict[str, Any]:
        """Return it as plain data, for a checkpoint."""
        return {
            "start": self.start,
            "sound": list(self.sound),
            "recent": list(self.recent),
            "spikes": self.spikes,
            "best": self.best and list(self.best),
            "since_best": self.since_best,
        }

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.start, self.spikes = state["start"], state["spikes"]
        self.sound.clear()
        self.sound.extend(state["sound"])
        self.recent.clear()
        self.recent.extend(state["recent"])
        self.best = tuple(state["best"]) if state["best"] else None
        self.since_best = state["since_best"]
