"""Divergence is told from a series of losses: soon where it is there, never where it is not."""

import json
import math
import random
from collections.abc import Sequence

import pytest

from poise.train.divergence import Finding, Watch

VOCABULARY = 400


def first_divergence(losses: Sequence[float], guess: float | None = None) -> tuple[int, Finding] | None:
    """Return the number of the loss that tells, from 1, and what it told."""
    watch = Watch(guess)
    for number, loss in enumerate(losses, 1):
        finding = watch.see(loss)
        if finding is not None and finding.is_divergence:
            return number, finding
    return None


def learning(
    steps: int, noise: random.Random, start: float = 2.0, end: float = 0.5, spread: float = 0.1
) -> list[float]:
    """Losses that fall from start to end, each off by a factor whose logarithm is normal."""
    return [
        (end + (start - end) * math.exp(-step / 20)) * math.exp(noise.gauss(0, spread if step else 0))
        for step in range(steps)
    ]


def test_a_window_that_excludes_what_is_flagged_sees_an_explosion_at_its_third_loss() -> None:
    found = first_divergence([2.0] * 30 + [40.0, 50.0, 60.0, 70.0])
    assert found is not None
    number, finding = found
    assert (number, finding.kind, finding.usual, finding.steps) == (33, "explosion", 2.0, 3)


def test_an_explosion_of_the_first_update_is_told_at_the_fourth_loss() -> None:
    assert first_divergence([0.69, 14.0, 19.0, 33.0])
    assert first_divergence([5.97, 44.0, 35.1, 55.9], guess=math.log(VOCABULARY))


def test_the_limit_is_the_median_and_eight_deviations() -> None:
    """Half of 20 losses is 1.0, half 1.4: median 1.2, deviation 0.2, so 2.8 is the highest that is sound."""
    watch = Watch()
    for loss in [1.0, 1.4] * 10:
        assert watch.see(loss) is None
    found = watch.see(2.81)
    assert found is not None
    assert (found.kind, found.usual, found.limit) == ("spike", pytest.approx(1.2), pytest.approx(2.8))
    assert watch.see(2.79) is None


def test_two_hard_steps_are_spikes_and_no_divergence() -> None:
    watch = Watch()
    kinds = [finding and finding.kind for finding in map(watch.see, [1.0] * 20 + [9.0, 9.0] + [1.0] * 20)]
    assert kinds[20:22] == ["spike", "spike"]
    assert not any(kinds[:20] + kinds[22:])


@pytest.mark.parametrize("steps", [50, 100, 200, 400])
def test_a_slow_rise_is_told_although_no_loss_leaves_the_window(steps: int) -> None:
    """From 0.5 back to where it began, 2.0, within so many steps; three quarters of the way is too late."""
    noise = random.Random(0)
    sound = learning(100, noise)
    rising = [(0.5 + 1.5 * step / steps) * math.exp(noise.gauss(0, 0.1)) for step in range(steps)]
    found = first_divergence(sound + rising)
    assert found is not None
    assert found[1].kind == "rise"
    assert 100 < found[0] <= 100 + 0.75 * steps + 5


@pytest.mark.parametrize(("guess", "spread"), [(None, 0.1), (None, 0.3), (math.log(VOCABULARY), 0.3), (10.0, 0.5)])
def test_noise_alone_is_never_a_divergence(guess: float | None, spread: float) -> None:
    """60 runs of 1,000 steps for each spread; that of a step of few rows is 0.3."""
    for seed in range(60):
        assert first_divergence(learning(1000, random.Random(seed), spread=spread), guess) is None


def number_told(later: list[float]) -> int | None:
    """Return which of the losses after 35 sound ones tells: they fell from 6 to 3, off by half a nat."""
    found = first_divergence([6.0] * 5 + [2.5, 3.5] * 15 + later, math.log(VOCABULARY))
    return found and found[0] - 35


@pytest.mark.parametrize(
    ("level", "number"),
    [
        (5.1, 9),  # 4 deviations are 5.0, half-way back is 4.5; nine of ten are above the 3.5 of that level
        (4.9, None),
    ],
)
def test_a_level_that_is_kept_is_a_rise_where_noise_and_learning_say_so(level: float, number: int | None) -> None:
    assert number_told([level] * 30) == number


def test_losses_that_are_seldom_high_are_no_rise() -> None:
    """Their median is high, too, but two of ten are where they were."""
    assert number_told([5.4] * 4 + [2.5, 5.4, 5.4, 5.4, 5.4, 2.5] * 4) is None


def test_an_easy_first_step_is_no_yardstick_for_mean_token_losses() -> None:
    assert first_divergence([0.2] + [1.1, 1.3, 0.9, 1.2] * 20, guess=10.0) is None


def test_warm_restarts_and_epochs_are_no_divergence() -> None:
    restart = learning(100, random.Random(1))
    again = learning(100, random.Random(2), start=0.7, end=0.4)
    later_epoch = learning(100, random.Random(3), start=0.2, end=0.1)
    assert first_divergence(restart + again + later_epoch) is None


@pytest.mark.parametrize("cut", [1, 5, 25, 41])
def test_judgements_go_on_from_a_stored_state(cut: int) -> None:
    losses = [*learning(40, random.Random(0)), 9.0, 9.5, 9.2, 9.9]
    whole, before, after = Watch(), Watch(), Watch()
    expected = [whole.see(loss) for loss in losses]
    for loss in losses[:cut]:
        before.see(loss)
    after.take_up(json.loads(json.dumps(before.state())))
    assert [after.see(loss) for loss in losses[cut:]] == expected[cut:]
    assert after.state() == whole.state()


def doubt_after(losses: Sequence[float]) -> bool:
    watch = Watch()
    for loss in losses:
        watch.see(loss)
    return watch.is_doubtful


@pytest.mark.parametrize(("losses", "doubt"), [([1.0] * 30, False), ([1.0] * 30 + [9.0], True), ([1.0], False)])
def test_a_checkpoint_after_a_spike_is_in_doubt(losses: list[float], doubt: bool) -> None:
    assert doubt_after(losses) is doubt
