"""Who meets, in which order, on which side; what a session shows and keeps."""

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from helpers import arena as made
from poise.arena.battles import battle, schedule
from poise.arena.contestants import Contestant
from poise.arena.session import Session
from poise.arena.store import Store, read_votes
from poise.arena.writer import Writer
from poise.errors import DataError, RecipeError, RunError
from poise.evaluate.answer import Answer, Sampling
from poise.evaluate.engine import Hear, Keep
from poise.evaluate.journal import Journal
from poise.evaluate.questions import Question
from poise.examples import Message

QUESTIONS = [Question(f"q{n}", "s", (Message("user", f"Task {n}"),)) for n in range(200)]


def test_sides_are_drawn_by_seed_and_prompt_and_about_half_are_left() -> None:
    first, other = (schedule(QUESTIONS, ["b", "a"], seed) for seed in (0, 1))
    assert first == schedule(QUESTIONS[::-1], ["a", "b"], 0)
    left = sum(each.left == "a" for each in first)
    assert 80 <= left <= 120, "two standard deviations are 14"
    sides = {each.id: each.left for each in other}
    assert 70 <= sum(sides[each.id] == each.left for each in first) <= 130, "another seed draws anew"
    assert [each.question for each in first] != [each.question for each in other]


def test_every_two_of_three_models_meet_on_every_question_in_even_rounds() -> None:
    battles = schedule(QUESTIONS[:30], ["a", "b", "c"], 0)
    assert len({each.id for each in battles}) == 90
    for turn in range(3):
        met = Counter(frozenset((each.left, each.right)) for each in battles[30 * turn : 30 * turn + 30])
        assert set(met.values()) == {10}


def test_a_battle_that_is_shown_again_has_its_sides_changed() -> None:
    battles = schedule(QUESTIONS[:20], ["a", "b"], 0, again=5)
    first = {each.question: each for each in battles[:20]}
    assert len(battles) == 25
    for each in battles[20:]:
        assert each.again
        assert (each.left, each.right) == (first[each.question].right, first[each.question].left)


def test_a_question_that_stands_twice_is_asked_once() -> None:
    assert len(schedule([QUESTIONS[0], Question("other", "t", QUESTIONS[0].prompt)], ["a", "b"], 0)) == 1


def test_equal_answers_are_a_tie_of_which_nobody_is_asked(tmp_path: Path) -> None:
    answers = [{"one": "the same", "other": "the same "}, {"one": "this", "other": "that"}] * 1
    session, store = made.make_session(tmp_path, str(made.write_answers(tmp_path / "answers", answers)))
    current = session.current()
    assert current is not None
    session.show(current.id)
    assert session.vote(current.id, "left")
    assert session.is_over
    assert sorted((vote.verdict, vote.seconds is None) for vote in store.votes()) == [("left", False), ("tie", True)]
    store.close()


def test_each_voter_votes_on_everything_and_a_restart_goes_on(tmp_path: Path) -> None:
    answers = str(made.write_answers(tmp_path / "answers", map(made.answers_of, range(4))))
    for voter, given in (("ada", 3), ("ben", 4), ("ada", 1)):
        session, store = made.make_session(tmp_path, answers, voter=voter)
        for _ in range(given):
            current = session.current()
            assert session.vote(current.id, "tie")
        store.close()
    votes = read_votes(tmp_path)
    assert Counter(vote.voter for vote in votes) == {"ada": 4, "ben": 4}
    assert len({(vote.voter, vote.battle.id) for vote in votes}) == 8


def test_a_vote_counts_for_the_answer_that_was_seen_whatever_the_seed(tmp_path: Path) -> None:
    answers = str(made.write_answers(tmp_path / "answers", map(made.answers_of, range(12))))
    for voter, seed in (("ada", 0), ("ben", 1)):
        session, store = made.make_session(tmp_path, answers, voter=voter, seed=seed)
        while (current := session.current()) is not None:
            shown = session.show(current.id)
            assert session.vote(current.id, "left" if " are " in shown.left else "right")
        store.close()
    votes = read_votes(tmp_path)
    assert [vote.winner for vote in votes] == [made.GOOD] * 24
    assert all(" are " in vote.answer_of(made.GOOD).text for vote in votes)


def test_answers_that_have_changed_since_they_were_voted_on_are_refused(tmp_path: Path) -> None:
    answers = str(made.write_answers(tmp_path / "answers", [{"one": "1", "other": "2"}]))
    session, store = made.make_session(tmp_path, answers)
    session.vote(session.current().id, "left")
    store.close()
    made.write_answers(tmp_path / "answers", [{"one": "1", "other": "two"}])
    with pytest.raises(RunError, match="holds votes on other answers"):
        made.make_session(tmp_path, answers, voter="ben")


def test_answers_are_named_by_their_file_and_chosen_by_a_label(tmp_path: Path) -> None:
    both = made.write_answers(tmp_path / "both", map(made.answers_of, range(2)))
    alone = made.write_answers(tmp_path / "alone", [{"mine": str(n)} for n in range(2)])
    for names, labels in (
        ([both], {made.GOOD, made.POOR}),
        ([f"{both}#{made.GOOD}", alone], {made.GOOD, "mine"}),
        ([f"one={alone}", f"other={both / 'samples.jsonl'}#{made.POOR}"], {"one", "other"}),
        ([alone, both], {made.GOOD, made.POOR, "mine"}),
    ):
        session, store = made.make_session(tmp_path / "-".join(sorted(labels)), *map(str, names))
        assert {session.current().left, session.current().right} <= labels
        assert set(session._writers) == labels
        store.close()


@pytest.mark.parametrize(
    ("names", "error", "told"),
    [
        (["{}/alone"], RecipeError, "an arena needs two models, got mine"),
        (["{}/alone", "{}/alone"], RecipeError, "two contestants are called 'mine'"),
        (["{}/alone#other", "{}/alone"], DataError, "holds no answers of 'other', but of mine"),
        (["{}/broken.jsonl", "{}/alone"], DataError, "holds no answers that can be read"),
    ],
)
def test_a_slip_in_the_names_is_told(names: list[str], error: type[Exception], told: str, tmp_path: Path) -> None:
    made.write_answers(tmp_path / "alone", [{"mine": "1"}])
    (tmp_path / "broken.jsonl").write_text(json.dumps({"id": "x"}) + "\n")
    with pytest.raises(error, match=told):
        made.make_session(tmp_path / "arena", *(name.format(tmp_path) for name in names))


def test_a_label_that_stood_for_another_model_is_refused(tmp_path: Path) -> None:
    answers = str(made.write_answers(tmp_path / "answers", [{"one": "1", "other": "2"}]))
    _, store = made.make_session(tmp_path, answers)
    with pytest.raises(RunError, match="holds votes on another 'one'"):
        store.enter({"one": {"sha256": "0"}})
    store.close()


def test_a_folder_without_votes_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no arena"):
        read_votes(tmp_path)
    answers = str(made.write_answers(tmp_path / "answers", [{"one": "1", "other": "2"}]))
    made.make_session(tmp_path, answers)[1].close()
    with pytest.raises(RunError, match="nobody has voted"):
        read_votes(tmp_path)
    (tmp_path / "arena.sqlite").write_text("no database, but long enough to be read as a header of one" * 20)
    with pytest.raises(RunError, match="cannot be read"):
        read_votes(tmp_path)


class Slow:
    """An engine that says what it is given, word by word, and waits to be let go on."""

    def __init__(self, name: str, *said: str) -> None:
        self.name, self.identity, self._said = name, {"name": name}, said
        self.go_on, self.has_said = threading.Semaphore(0), threading.Semaphore(0)

    def answer(
        self, questions: Sequence[Question], sampling: Sampling, label: str, keep: Keep, hear: Hear | None = None
    ) -> list[Answer]:
        given = [Answer(self._said[-1], 1, True, None) for _ in questions]
        for question, answer in zip(questions, given, strict=True):
            for said in self._said[:-1]:
                assert self.go_on.acquire(timeout=20)
                assert hear is not None
                hear(question, said)
                self.has_said.release()
            assert self.go_on.acquire(timeout=20)
            keep(question, answer)
        return given


def test_as_much_is_shown_on_the_left_as_on_the_right_until_one_is_whole(tmp_path: Path) -> None:
    """Which of two models is faster is nobody's business who votes on what they say."""
    fast, slow = Slow("fast", "abcdef", "abcdefgh"), Slow("slow", "12", "1234", "123456789")
    contestants = [Contestant(engine.name, engine.identity, engine) for engine in (fast, slow)]
    (met,) = battles = schedule(QUESTIONS[:1], ["fast", "slow"], 0)
    journal = Journal(tmp_path / "answers.jsonl")
    writers = {each.label: Writer(each, Sampling(8), journal, QUESTIONS[:1], 8) for each in contestants}
    with closing(Store(tmp_path)) as store:
        store.enter({each.label: each.identity for each in contestants})
        session = Session(battles, writers, store, "me", 0)

        def sides() -> tuple[str, str]:
            shown = session.show(met.id)
            assert shown is not None
            return (shown.left, shown.right) if met.left == "fast" else (shown.right, shown.left)

        for writer in writers.values():
            writer.start()
        assert sides() == ("", "")
        fast.go_on.release()
        fast.has_said.acquire()
        assert sides() == ("", "")
        slow.go_on.release()
        slow.has_said.acquire()
        assert sides() == ("ab", "12")
        assert not session.vote(met.id, "left"), "nothing to vote on yet"
        fast.go_on.release()
        while writers["fast"].answer_to(QUESTIONS[0]) is None:
            time.sleep(0.001)
        assert sides() == ("ab", "12"), "what is whole waits for the other"
        slow.go_on.release()
        slow.has_said.acquire()
        assert sides() == ("abcd", "1234")
        slow.go_on.release()
        while writers["slow"].answer_to(QUESTIONS[0]) is None:
            time.sleep(0.001)
        assert sides() == ("abcdefgh", "123456789")
        assert session.vote(met.id, "left")
        for writer in writers.values():
            writer.stop()
            writer.join()
            assert writer.error is None


def test_an_id_tells_neither_name_nor_side() -> None:
    one, other = (battle(QUESTIONS[0], "a", "b", seed) for seed in (0, 1))
    assert one.id == other.id
