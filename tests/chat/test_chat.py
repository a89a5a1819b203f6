"""Chat in a terminal: a pseudo-terminal types, and what it kept is trained on."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers import tiny
from poise.chat.chat import CONVERSATIONS, PREFERENCES, Room, chat
from poise.chat.voice import Streaming
from poise.errors import ModelError
from poise.evaluate.answer import Sampling
from poise.evaluate.engine import InProcess
from poise.evaluate.questions import Question
from poise.examples import Message
from poise.run import Run

SECONDS = 120


def train(verb: str, place: Path, data: Path, name: str, **keys: Any) -> Path:
    from poise.recipe import load_recipe
    from poise.workflow import train_and_report

    given = {"model_name_or_path": place / "base", "dataset_name": data, "output_dir": place / name, **keys}
    train_and_report(load_recipe(verb, None, tiny.settings(**given)))
    return place / name


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: `left` has learned to stop after a word, `right` after other words."""
    folder = tmp_path_factory.mktemp("chat")
    tiny.make_base(folder / "base")
    for name, said in (("left", "apple"), ("right", "river and stone")):
        rows = [tiny.conversation(f"Say {word}", said) for word in tiny.WORDS]
        train("sft", folder, tiny.write_rows(folder / f"{name}.jsonl", rows), name, max_steps=25, learning_rate=1e-2)
    return folder


@pytest.fixture(scope="module")
def engine(place: Path) -> InProcess:
    from poise.answering import open_engine

    opened = open_engine(str(place / "right" / "model"), place)
    assert isinstance(opened, InProcess)
    return opened


class Terminal:
    """A chat that believes it talks to a person."""

    def __init__(self, *arguments: str) -> None:
        self._own, theirs = pty.openpty()
        command = [sys.executable, "-m", "poise", "chat", *arguments]
        plain = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}
        self.child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=plain, close_fds=True)
        os.close(theirs)
        self.seen = ""

    def wait_for(self, text: str) -> str:
        """Read until a text comes; returns what came before it."""
        until = time.monotonic() + SECONDS
        while text not in self.seen:
            assert time.monotonic() < until, self.seen
            if select.select([self._own], [], [], 1)[0]:
                self.seen += os.read(self._own, 65536).decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, line: str) -> None:
        self.wait_for("you> ")
        os.write(self._own, f"{line}\n".encode())


def test_a_person_talks_with_two_models_and_trains_on_what_was_kept(place: Path) -> None:
    kept = place / "kept"
    models = [str(place / name) for name in ("left", "right")]
    terminal = Terminal(*models, "--out", str(kept), "--temperature", "0", "--max-new-tokens", "12")
    terminal.type("Say cloud")
    shown = terminal.wait_for("you> ")
    assert "left, " in shown and "right, " in shown
    assert "apple" in shown and "river and stone" in shown
    terminal.seen = "you> "
    terminal.type("/prefer right")
    terminal.wait_for("preferences.jsonl")
    terminal.type("Say tiger")
    terminal.type("/prefer left")
    terminal.type("/save")
    terminal.wait_for("conversations.jsonl")
    terminal.type("/quit")
    assert terminal.child.wait(SECONDS) == 0
    pairs = [json.loads(line) for line in (kept / PREFERENCES).read_text().splitlines()]
    assert [pair["chosen"][0]["content"] for pair in pairs] == ["river and stone", "apple"]
    assert [message["content"] for message in pairs[1]["prompt"]] == ["Say cloud", "river and stone", "Say tiger"]
    conversation = json.loads((kept / CONVERSATIONS).read_text())
    assert [message["content"] for message in conversation["messages"]][-2:] == ["Say tiger", "apple"]
    for verb, name in (("dpo", PREFERENCES), ("sft", CONVERSATIONS)):
        run = train(verb, place, kept / name, verb, max_steps=2)
        assert Run(run).manifest["data"]["rows"] == {"dpo": 2, "sft": 1}[verb]


def room(engine: InProcess, out: Path, temperature: float = 0.0) -> Room:
    return Room([Streaming("it", engine)], out, Sampling(12, temperature))


def test_a_gguf_is_talked_with_through_a_server(tmp_path: Path) -> None:
    (tmp_path / "it-q8_0.gguf").touch()
    for model in (tmp_path, tmp_path / "it-q8_0.gguf"):
        with pytest.raises(ModelError, match=r"is for llama\.cpp(.|\n)*poise serve .*#it-q8_0"):
            chat([str(model)], tmp_path, Sampling(8), None)


def test_what_streams_is_what_the_engine_answers(engine: InProcess, tmp_path: Path) -> None:
    told: list[str] = []
    asked = (Message("user", "Say cloud"),)
    said = Streaming("it", engine).say(asked, Sampling(12), told.append)
    whole = engine.answer([Question("1", "q", asked)], Sampling(12), "it", lambda question, answer: None)[0]
    assert said == whole.text == told[-1] == "river and stone"
    assert whole.stopped
    assert [text for text in told if not said.startswith(text)] == []
    assert len(set(told)) > 2  # it came in pieces


def test_ctrl_c_ends_an_answer_where_it_is(engine: InProcess) -> None:
    def stop(text: str) -> None:
        if "and" in text:
            raise KeyboardInterrupt

    assert Streaming("it", engine).say((Message("user", "Say cloud"),), Sampling(12), stop) == "river and"


def test_retry_draws_again_and_the_same_seed_draws_the_same(engine: InProcess, tmp_path: Path) -> None:
    answers: list[list[str]] = []
    for _ in range(2):
        here = room(engine, tmp_path, temperature=3.0)
        for line in ("Say cloud", "/retry"):
            assert here.hear(line)
        answers.append([said.text for said in here.talk.answers])
    assert answers[0] == answers[1]
    assert answers[0][0] != answers[0][1]


def test_mistakes_are_told_and_change_nothing(
    engine: InProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = room(engine, tmp_path)
    here.hear("Say cloud")
    before = here.talk.messages()
    for line in ("/prefr left", "/prefer left", "/retry", "/system", "word " * 300, ""):
        assert here.hear(line)
    told = capsys.readouterr().err
    assert "there is no /prefr; did you mean 'prefer'?" in told
    assert "no two answers" in told
    assert "--temperature 0.7" in told
    assert "are more than it can see (256)" in told
    assert here.talk.messages() == before
    assert not here.hear("/quit")
    assert here.kept() == {"folder": str(tmp_path), "preferences": 0, "conversations": 0}
