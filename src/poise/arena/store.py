"""The arena's file: who competes, what was put to the vote with both answers, and every vote, in SQLite.

A vote is on the disk before the page goes on, so a killed arena has lost none; a battle has one vote of each voter,
however often it is sent.
"""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from poise.arena.battles import Battle
from poise.errors import RunError
from poise.evaluate.answer import Answer
from poise.evaluate.questions import Question
from poise.examples import Message
from poise.run import now

FILE = "arena.sqlite"
TYPED = "typed"
"""The set of prompts that people wrote into the page."""
Verdict = Literal["left", "right", "tie", "both_bad"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
TABLES = """
CREATE TABLE IF NOT EXISTS contestants (label TEXT PRIMARY KEY, identity TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS battles (
    id TEXT PRIMARY KEY, question TEXT NOT NULL, left TEXT NOT NULL REFERENCES contestants(label),
    right TEXT NOT NULL REFERENCES contestants(label), again INTEGER NOT NULL, left_answer TEXT, right_answer TEXT);
CREATE TABLE IF NOT EXISTS votes (
    battle TEXT NOT NULL REFERENCES battles(id), voter TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('left', 'right', 'tie', 'both_bad')),
    seconds REAL, time TEXT NOT NULL, PRIMARY KEY (battle, voter));
"""


@dataclass(frozen=True)
class Vote:
    """One voter's verdict on a battle, with what was shown."""

    battle: Battle
    left: Answer
    right: Answer
    voter: str
    verdict: Verdict
    seconds: float | None
    """From the whole answers being there to the vote; None where equal answers needed none."""

    @property
    def winner(self) -> str | None:
        """The label of the better answer; None where there is none."""
        return {"left": self.battle.left, "right": self.battle.right}.get(self.verdict)

    def answer_of(self, label: str) -> Answer:
        """Return what one of the two said."""
        return self.left if label == self.battle.left else self.right


class Store:
    """An open arena file; for one thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self._db = sqlite3.connect(self.path, isolation_level=None)
        try:
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.executescript(TABLES)
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.path, error) from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def enter(self, identities: Mapping[str, Mapping[str, Any]]) -> None:
        """Take part under these labels; RunError where a label stood for another model, whose votes are here."""
        for label, identity in identities.items():
            told = json.dumps(identity, sort_keys=True)
            self._db.execute("INSERT OR IGNORE INTO contestants VALUES (?, ?)", (label, told))
            (kept,) = self._db.execute("SELECT identity FROM contestants WHERE label = ?", (label,)).fetchone()
            if kept != told:
                raise RunError(
                    f"{self.path} holds votes on another {label!r}\n"
                    "    why:    its weights, template or settings have changed, and votes on both would be mixed\n"
                    f"    to do:  choose another --out, or another label: {label}-2=…"
                )

    def add(self, battle: Battle) -> None:
        """Put a battle down, so that it comes back after a kill; one that is there stays as it is."""
        question = json.dumps(asdict(battle.question), ensure_ascii=False)
        self._db.execute(
            "INSERT OR IGNORE INTO battles VALUES (?, ?, ?, ?, ?, NULL, NULL)",
            (battle.id, _whole(question), battle.left, battle.right, int(battle.again)),
        )

    def vote(
        self, battle: Battle, answers: tuple[Answer, Answer], voter: str, verdict: Verdict, seconds: float | None
    ) -> None:
        """Keep a vote with what it was on; the first of a voter on a battle holds."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self.add(battle)
            left, right = (_whole(json.dumps(asdict(answer), ensure_ascii=False)) for answer in answers)
            self._db.execute(
                "UPDATE battles SET left_answer = ?, right_answer = ? WHERE id = ? AND left_answer IS NULL",
                (left, right, battle.id),
            )
            self._db.execute(
                "INSERT OR IGNORE INTO votes VALUES (?, ?, ?, ?, ?)", (battle.id, voter, verdict, seconds, now())
            )
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def take_back(self, voter: str) -> None:
        """Remove a voter's last vote that was given by hand, and what followed it of itself."""
        row = self._db.execute(
            "SELECT max(rowid) FROM votes WHERE voter = ? AND seconds IS NOT NULL", (voter,)
        ).fetchone()
        if row[0] is not None:
            self._db.execute("DELETE FROM votes WHERE voter = ? AND rowid >= ?", (voter, row[0]))

    def voted(self, voter: str) -> set[str]:
        """Return the battles that a voter has voted on."""
        return {battle for (battle,) in self._db.execute("SELECT battle FROM votes WHERE voter = ?", (voter,))}

    def battles(self) -> dict[str, tuple[Battle, tuple[Answer, Answer] | None]]:
        """Return every battle that was put down, with its answers where it was voted on."""
        rows = self._db.execute("SELECT * FROM battles ORDER BY rowid").fetchall()
        return {row[0]: (_battle(row), (_answer(row[5]), _answer(row[6])) if row[5] else None) for row in rows}

    def votes(self) -> list[Vote]:
        """Return all votes, oldest first."""
        try:
            battles = self.battles()
            rows = self._db.execute("SELECT battle, voter, verdict, seconds FROM votes ORDER BY rowid").fetchall()
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(self.path, error) from None
        votes: list[Vote] = []
        for id, voter, verdict, seconds in rows:
            battle, answers = battles[id]
            if answers is not None:
                votes.append(Vote(battle, *answers, voter, verdict, seconds))
        return votes


def read_votes(folder: Path) -> list[Vote]:
    """Read the votes of an arena; RunError where there is none, or nobody voted."""
    if not (folder / FILE).is_file():
        raise RunError(
            f"{folder} is no arena: it has no {FILE}\n    to do:  name a folder that `poise arena A B` wrote"
        )
    with closing(Store(folder)) as store:
        votes = store.votes()
    if not votes:
        raise RunError(f"nobody has voted in {folder}\n    to do:  poise arena A B --out {folder}, and vote")
    return votes


def _battle(row: tuple[Any, ...]) -> Battle:
    fields = json.loads(row[1])
    prompt = tuple(Message(**turn) for turn in fields["prompt"])
    question = Question(fields["id"], fields["set"], prompt, fields["text"], tuple(fields["expected"]))
    return Battle(row[0], question, row[2], row[3], bool(row[4]))


def _answer(text: str) -> Answer:
    return Answer(**json.loads(text))


def _whole(text: str) -> str:
    """Replace halves of characters, which have no bytes."""
    return text.encode("utf-8", "replace").decode()


def _unreadable(path: Path, error: Exception) -> RunError:
    return RunError(f"{path} cannot be read ({error})\n    to do:  restore it, or choose another folder")
