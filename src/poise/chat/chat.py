"""`poise chat`: read a line, answer it, obey a command; what is preferred or saved goes to files to train on."""

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from poise import progress
from poise.chat.screen import show
from poise.chat.talk import NotNow, Said, Talk
from poise.chat.voice import Streaming, Voice, Whole
from poise.errors import DataError, ModelError
from poise.evaluate.answer import Sampling
from poise.evaluate.engine import InProcess
from poise.evaluate.generate import seed_of
from poise.names import did_you_mean
from poise.run import model_folder

PREFERENCES, CONVERSATIONS = "preferences.jsonl", "conversations.jsonl"
HELP = """\
/prefer left|right   keep the two answers as a preference pair, and go on with this one
/save                keep the conversation
/retry               answer again, by another draw; alone, the new answer stands right of the old one
/undo                take back the last question
/system TEXT         begin anew under this system message
/clear               begin anew
/quit                or Ctrl-D; Ctrl-C ends an answer"""


def chat(models: Sequence[str], out: Path, sampling: Sampling, chat_template: str | None) -> dict[str, Any]:
    """Talk until the input ends; returns how much was kept where."""
    voices = [_open(model, out, chat_template) for model in models]
    room = Room(voices, out, sampling)
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # pyright: ignore[reportUnusedImport] - lines can be edited, and come back
    progress.say(f"{' and '.join(voice.name for voice in voices)} · /help lists commands")
    while True:
        try:
            line = input("you> ") + "\n" if sys.stdin.isatty() else sys.stdin.readline()
        except EOFError:
            break
        except KeyboardInterrupt:
            click.echo()
            continue
        if not line or not room.hear(line.strip()):
            break
    return room.kept()


@dataclass
class Room:
    """The models that answer, and the conversation with them."""

    voices: Sequence[Voice]
    out: Path
    sampling: Sampling
    talk: Talk = field(default_factory=Talk)
    draws: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {PREFERENCES: 0, CONVERSATIONS: 0})

    def hear(self, line: str) -> bool:
        """Do what a line says; False where it ends the chat."""
        try:
            if line in ("/quit", "/exit"):
                return False
            if line.startswith("/"):
                self._command(*line[1:].split(" ", 1))
            elif line:
                self._ask(line)
        except (NotNow, DataError) as error:
            progress.say(str(error))
        return True

    def kept(self) -> dict[str, Any]:
        """Say what was written in this chat."""
        return {"folder": str(self.out), "preferences": self.counts[PREFERENCES],
                "conversations": self.counts[CONVERSATIONS]}  # fmt: skip

    def _ask(self, text: str) -> None:
        self.talk.ask(text)
        try:
            self.talk.answered(*self._answers())
        except (NotNow, DataError):
            self.talk.undo()
            raise

    def _answers(self) -> list[Said]:
        """Let every model answer the last question, one after the other."""
        self.draws += 1
        sampling = replace(self.sampling, seed=seed_of(self.sampling.seed, str(self.draws)))
        said: list[Said] = []
        with show([voice.name for voice in self.voices]) as screen:
            for index, voice in enumerate(self.voices):

                def tell(text: str, index: int = index) -> None:
                    screen.tell(index, text)

                tell("")
                said.append(Said(voice.name, voice.say(self.talk.prompt(), sampling, tell)))
        return said

    def _command(self, name: str, rest: str = "") -> None:
        commands: dict[str, Callable[[str], None]] = {
            "prefer": self._prefer, "save": self._save, "retry": self._retry, "undo": self._undo,
            "system": self._system, "clear": self._clear, "help": lambda _: progress.say(HELP),
        }  # fmt: skip
        if name not in commands:
            raise NotNow(f"there is no /{name}{did_you_mean(name, [*commands, 'quit'])} (/help lists commands)")
        commands[name](rest.strip())

    def _prefer(self, side: str) -> None:
        self._keep(PREFERENCES, self.talk.prefer(side))

    def _save(self, _: str) -> None:
        self._keep(CONVERSATIONS, self.talk.row())

    def _retry(self, _: str) -> None:
        if not self.talk.answers:
            raise NotNow("nothing has been answered")
        if self.sampling.temperature == 0:
            raise NotNow("at temperature 0 the answer would be the same: start with --temperature 0.7")
        answers = self._answers()
        if len(answers) > 1:
            self.talk.answered(*answers)
        else:
            self.talk.answered_again(answers[0])

    def _undo(self, _: str) -> None:
        self.talk.undo()

    def _system(self, text: str) -> None:
        if not text:
            raise NotNow("say what: /system Answer in one sentence.")
        self.talk = Talk(system=text)

    def _clear(self, _: str) -> None:
        self.talk = Talk(system=self.talk.system)

    def _keep(self, name: str, row: dict[str, Any]) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.counts[name] += 1
        progress.say(f"kept in {self.out / name}")


def _open(model: str, out: Path, chat_template: str | None) -> Voice:
    from poise.answering import is_served, open_engine

    named = model if is_served(model) else str(model_folder(Path(model)))
    file = next((path for path in (Path(named), *Path(named).glob("*.gguf")) if path.suffix == ".gguf"), None)
    if file is not None and not is_served(model):
        raise ModelError(
            f"{file} is for llama.cpp\n"
            f"    to do:  poise serve {model}, and meanwhile poise chat http://127.0.0.1:8000/v1#{file.stem}"
        )
    engine = open_engine(named, out, chat_template=chat_template)
    return Streaming(model, engine) if isinstance(engine, InProcess) else Whole(engine.name, engine)
