"""Progress: whole key=value lines where nobody watches, everything on stderr."""

import threading

import pytest

from poise import progress


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_a_stage_says_a_line_at_one_two_five_and_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.stage("sft", 120) as stage:
        for done in range(1, 121):
            stage.advance(done)
    said = [line.split()[1] for line in lines(capsys)]
    assert said == [f"done={done}/120" for done in (1, 2, 5, 10, 20, 50, 100, 120)]


def test_facts_are_short_and_hold_no_space(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.stage("ask before", 1) as stage:
        stage.advance(1, loss=0.123456, big=1234567.0, **{"a name": "two words"})
    (line,) = lines(capsys)
    assert "loss=0.123 big=1234567 a_name=two_words" in line
    assert line.startswith("stage=ask")


def test_every_line_of_a_stage_is_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.stage("ask before", 1) as stage:
        stage.advance(1)
    (line,) = lines(capsys)
    assert all(pair.count("=") == 1 for pair in line.split(" ")), line


def test_a_stage_that_ends_in_an_error_lets_it_through(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), progress.stage("sft", 2):
        raise ZeroDivisionError
    assert lines(capsys) == []


def test_what_is_said_is_shown_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    progress.say("[bold]not markup[/bold] " + "x" * 300)
    assert lines(capsys) == ["[bold]not markup[/bold] " + "x" * 300]


def test_a_pipe_is_not_interactive() -> None:
    assert not progress.is_interactive()


def test_a_quiet_stage_says_nothing_at_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 1.9, 2.0, 2.0, 2.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    with progress.stage("write", 3, quiet_s=2.0) as stage:
        stage.advance(1)
        stage.advance(3)
    (line,) = lines(capsys)
    assert line.startswith("stage=write done=3/3 elapsed_s=2")


def test_a_silent_block_shows_no_stage_and_only_in_its_thread(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with progress.stage("beside", 1) as stage:
            stage.advance(1)

    with progress.silent():
        with progress.stage("inside", 1) as stage:
            stage.advance(1)
        beside = threading.Thread(target=work)
        beside.start()
        beside.join()
    work()
    assert [line.split()[0] for line in lines(capsys)] == ["stage=beside", "stage=beside"]
