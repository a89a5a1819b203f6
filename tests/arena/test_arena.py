"""`poise arena` as a user meets it: opened, voted in, killed, gone on with, rated, exported, trained on."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest

from helpers import arena as made
from helpers import chromium, tiny
from helpers import judge_server as judges
from poise.arena.store import read_votes
from poise.evaluate.statistics import win_rate

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
HERE = Path(__file__).parent


class Opened:
    """An arena in a process of its own, and who visits it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process, self.told = process, ""
        assert process.stderr is not None
        self.address = next(
            found[0] for line in process.stderr if (found := re.search(r"http://\S+", self._hear(line)))
        )
        self.root = self.address.partition("/?")[0]
        self._listener = threading.Thread(target=lambda: [self._hear(line) for line in process.stderr or ()])
        self._listener.start()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        self.page = self.get("/" + self.address.rpartition("/")[2])

    def _hear(self, line: str) -> str:
        self.told += line
        return line

    def get(self, path: str) -> str:
        with self._opener.open(self.root + path, timeout=60) as reply:
            return reply.read().decode()

    def post(self, path: str, **form: str) -> None:
        """Send a form of the page; what follows it is the new page."""
        form["check"] = made.field(self.page, "check")
        with self._opener.open(self.root + path, urlencode(form).encode(), timeout=60) as reply:
            self.page = reply.read().decode()

    def vote(self, verdict: str) -> None:
        self.post("/vote", battle=made.field(self.page, "battle"), verdict=verdict)

    def wait_until_written(self) -> None:
        end = time.monotonic() + 120
        while 'data-whole="no"' in self.page:
            assert time.monotonic() < end, self.told
            time.sleep(0.1)
            self.page = self.get("/")

    def wait(self) -> int:
        code = self.process.wait(timeout=60)
        self._listener.join()
        return code


@contextmanager
def opened(*words: object) -> Generator[Opened]:
    command = [sys.executable, "-m", "poise", "arena", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Opened(process)
        finally:
            process.kill()


def better_or(page: str, number: int) -> str:
    """Vote as a person of some judgment: the fifth a tie, the ninth for neither."""
    return {4: "tie", 8: "both_bad"}.get(number) or made.verdict_for(page)


def test_twenty_votes_a_kill_a_restart_ratings_and_pairs_that_dpo_takes(
    poise: Any, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answers = made.write_answers(tmp_path / "answers", map(made.answers_of, range(20)))
    with opened(answers, "--out", "votes") as arena:
        for number in range(11):
            arena.vote(better_or(arena.page, number))
        arena.process.send_signal(signal.SIGKILL)
        assert arena.wait() == -signal.SIGKILL
    assert len(read_votes(Path("votes"))) == 11
    with opened(answers, "--out", "votes", "--json") as arena:
        assert "11 of 20 voted" in arena.page
        for number in range(11, 20):
            arena.vote(better_or(arena.page, number))
        assert f"{made.GOOD} wins 95\u00a0% against {made.POOR}" in arena.page
        assert "alert(1)" in arena.page
        assert "<script>alert" not in arena.page
        assert arena.wait() == 0, "it ends by itself when all is voted on"
        assert arena.process.stdout is not None
        told = json.loads(arena.process.stdout.read())
    votes = read_votes(Path("votes"))
    assert len(votes) == len({vote.battle.id for vote in votes}) == 20
    assert told["tables"][0]["lines"][0]["estimate"]["value"] == 95
    assert {key: each for key, each in told["figures"]["pairs"][0].items() if not isinstance(each, float)} == {
        "first": made.GOOD, "second": made.POOR, "wins": 18, "losses": 0, "ties": 1, "both_bad": 1,
        "test": "exact sign test",
    }  # fmt: skip
    code, out, _ = poise("arena", answers, "--out", "votes")
    assert code == 0, "nothing is left to vote on, so no page is opened"
    assert out.startswith(f"arena of {made.GOOD} against {made.POOR}\n")
    code, out, _ = poise("arena", "ratings", "votes")
    assert code == 0
    expected = win_rate([1.0] * 18 + [0.5] * 2).scaled(100)
    assert f"{made.GOOD} against {made.POOR}  95.00 [{expected.low:.2f}, {expected.high:.2f}]  n=20" in out
    assert json.loads(Path("votes/evaluation.json").read_text())["kind"] == "arena"
    code, out, err = poise("arena", "export", "votes", "--out", "pairs", "--json")
    assert code == 0, err
    pairs = json.loads(out)["pairs"]
    assert (sum(pairs.values()), json.loads(out)["left_out"]) == (18, {"tie": 1, "both bad": 1})
    code, out, err = poise("plan", "--verb", "dpo", f"model_name_or_path={small_model}", "dataset_name=pairs", "--json")
    assert code == 0, err
    assert json.loads(out)["data"]["rows"] == pairs["train"]


def test_ctrl_c_keeps_the_votes_and_tells_the_tally(tmp_path: Path) -> None:
    answers = made.write_answers(tmp_path / "answers", map(made.answers_of, range(5)))
    with opened(answers, "--out", tmp_path / "votes") as arena:
        for _ in range(2):
            arena.vote("left")
        with pytest.raises(HTTPError):
            urllib.request.urlopen(arena.root, timeout=10)  # without the cookie
        arena.process.send_signal(signal.SIGINT)
        assert arena.wait() == 0
        assert arena.process.stdout is not None
        told = arena.process.stdout.read()
    assert "Traceback" not in arena.told
    assert "Win rate, a tie half a win" in told
    assert f"next:   poise arena export {tmp_path / 'votes'}" in told
    assert len(read_votes(tmp_path / "votes")) == 2


def test_models_answer_while_one_votes_and_a_typed_prompt_survives_a_kill(tmp_path: Path) -> None:
    """The prompt is typed, and the arena killed before the vote on it."""
    pytest.importorskip("openai")
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(json.dumps({"id": f"q{n}", "prompt": f"Say {n}"}) + "\n" for n in range(3)))
    one, two = (judges.Habits(says=lambda prompt, says=says: f"{says}: {prompt}") for says in ("Yes", "No"))
    two.refuses = lambda body: (400, "too long") if "endless" in body["messages"][-1]["content"] else None
    with judges.serving(one) as first, judges.serving(two) as second:
        words = [f"{first}#alpha", f"{second}#omega", "--questions", questions, "--out", tmp_path / "votes"]
        with opened(*words) as arena:
            assert not re.search(r"alpha|omega", arena.page)
            arena.post("/ask", prompt="What of <b>this</b>?")
            assert "What of &lt;b&gt;this&lt;/b&gt;?" in arena.page
            arena.wait_until_written()
            arena.process.send_signal(signal.SIGKILL)
            arena.wait()
        with opened(*words) as arena:
            assert "What of &lt;b&gt;this&lt;/b&gt;?" in arena.page, "it comes back"
            arena.post("/ask", prompt="Something endless")
            end = time.monotonic() + 60
            while "Your last prompt could not be answered" not in arena.page:
                assert time.monotonic() < end, arena.told
                arena.page = arena.get("/")
            assert "Something endless" not in arena.page
            while 'data-battle="' in arena.page:
                arena.wait_until_written()
                assert not re.search(r"alpha|omega", arena.page)
                arena.vote("left" if "Yes:" in made.shown(arena.page, "left") else "right")
            assert "Everything is voted on. Ask something yourself" in arena.page
            arena.post("/end")
            assert "alpha wins 100\u00a0% against omega" in arena.page
            assert arena.wait() == 0, arena.told
            assert "a typed prompt could not be answered by omega: omega refuses 1 of 1 questions" in arena.told
    for habits, answered in ((one, 5), (two, 4)):
        assert len(habits.answered) == answered
        assert sum(habits.answered.values()) <= answered + 1, "only what was on its way at the kill is asked again"
    votes = read_votes(tmp_path / "votes")
    assert [vote.battle.question.set for vote in votes] == ["typed", "questions", "questions", "questions"]
    assert all(vote.answer_of("alpha").text.startswith("Yes: ") for vote in votes)


def test_ctrl_c_does_not_wait_for_a_server_that_is_busy(tmp_path: Path) -> None:
    pytest.importorskip("openai")
    questions = tmp_path / "q.jsonl"
    questions.write_text(json.dumps({"id": "q", "prompt": "Say"}) + "\n")
    habits = judges.Habits(says=str, statuses=[503] * 99)
    with judges.serving(habits) as url:
        words = [f"{url}#one", f"{url}#two", "--questions", questions, "--out", tmp_path / "votes"]
        with opened(*words) as arena:
            while len(habits.bodies) < 4:  # of the six attempts of both; before each further one they wait for seconds
                time.sleep(0.01)
            arena.process.send_signal(signal.SIGINT)
            assert arena.wait() == 0, arena.told
            assert len(habits.bodies) <= 6
            assert arena.process.stdout is not None
            assert "nobody has voted yet; the same command goes on" in arena.process.stdout.read()


def test_a_server_that_refuses_ends_the_arena_with_its_reason(tmp_path: Path) -> None:
    questions = tmp_path / "q.jsonl"
    questions.write_text(json.dumps({"id": "q", "prompt": "Say"}) + "\n")
    pytest.importorskip("openai")
    habits = judges.Habits(says=str, statuses=[401] * 9)
    with judges.serving(habits) as url:
        command = [sys.executable, "-m", "poise", "arena", f"{url}#one", f"{url}#two", "--questions", questions]
        end = subprocess.run(
            [*map(str, command), "--out", str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
        )
    assert end.returncode == 2
    assert "refuses 'one'" in end.stderr or "refuses 'two'" in end.stderr
    assert "Traceback" not in end.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["arena", "only-one"], "an arena needs two models, got only-one"),
        (["arena", "ratings", "nothing"], "nothing is no arena"),
        (["arena", "export", "nothing"], "nothing is no arena"),
        (["arena", "a", "b", "--questions", "no.jsonl"], "no question file no.jsonl"),
        (["arena", "--questoins", "x", "a", "b"], "--questoins"),
    ],
)
def test_a_slip_is_told_before_anything_is_loaded(
    words: list[str], told: str, poise: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = poise(*words)
    assert (code, out) == (2, "")
    assert told in err
    assert "Traceback" not in err


# In a browser --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("base"), initializer_range=0.6)


def vote_by_keys(page: Any, votes: int, number: int = 0) -> None:
    """Vote as a person does, by the keyboard alone, and look that no name is seen."""
    for turn in range(number, number + votes):
        page.until("document.body.dataset.whole === 'yes' && document.readyState === 'complete'")
        source = page.value("document.documentElement.outerHTML")
        assert not made.NAMES.search(source)
        assert not made.NAMES.search(page.value("location.href + document.cookie"))
        verdict = better_or(source, turn)
        key = {"left": "ArrowLeft", "right": "ArrowRight", "tie": "ArrowDown", "both_bad": "x"}[verdict]
        battle = page.value("document.body.dataset.battle")
        page.press(key)
        page.until(f"document.readyState === 'complete' && document.body.dataset.battle !== '{battle}'")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(chromium.find() is None, reason="there is no Chromium on this machine")
def test_twenty_votes_by_keyboard_a_kill_and_a_training_on_the_export(
    poise: Any, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answers = made.write_answers(tmp_path / "answers", map(made.answers_of, range(20)))
    browser = chromium.find()
    assert browser is not None
    asked: list[str] = []
    with opened(answers, "--out", "votes") as arena, chromium.browsing(browser) as page:
        page.open(arena.address)
        assert page.value("location.search") == "", "the token has left the address"
        page.press("t", repeated=True)
        assert "0 of 20 voted" in page.value("document.body.innerText"), "a key that is held does not vote"
        vote_by_keys(page, 11)
        page.press("u")
        page.until("document.body.innerText.includes('10 of 20 voted')")
        vote_by_keys(page, 1, 10)
        asked += page.requested()
        assert page.said() == []
        arena.process.send_signal(signal.SIGKILL)
    with opened(answers, "--out", "votes") as arena, chromium.browsing(browser) as page:
        page.open(arena.address)
        page.until("document.body.innerText.includes('11 of 20 voted')")
        vote_by_keys(page, 9, 11)
        end = page.value("document.body.innerText")
        assert f"{made.GOOD} wins 95\u00a0% against {made.POOR}" in end
        asked += page.requested()
        assert page.said() == []
        assert arena.wait() == 0
    hosts = {re.match(r"(\w+:)(//[\d.]+)?", address)[0] for address in asked}  # pyright: ignore[reportOptionalSubscript]
    assert hosts - {"data:"} == {"http://127.0.0.1"}, "no request leaves this machine"
    votes = read_votes(Path("votes"))
    assert len(votes) == len({vote.battle.id for vote in votes}) == 20
    assert poise("arena", "export", "votes", "--out", "pairs")[0] == 0
    code, _, err = poise(
        "dpo", f"model_name_or_path={base}", "dataset_name=pairs", "output_dir=run", "max_steps=2",
        "chat_template=chatml", "learning_rate=1e-5",
    )  # fmt: skip
    assert code == 0, err
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) >= 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(chromium.find() is None, reason="there is no Chromium on this machine")
def test_a_typed_prompt_is_answered_in_both_panes_word_by_word(base: Path, tmp_path: Path) -> None:
    other = tiny.make_base(tmp_path / "other", initializer_range=0.6, seed=1)
    browser = chromium.find()
    assert browser is not None
    words = [base, other, "--chat-template", "chatml", "--max-new-tokens", 400, "--out", tmp_path / "votes"]
    with opened(*words) as arena, chromium.browsing(browser) as page:
        page.open(arena.address)
        page.value("document.getElementById('prompt').focus()")
        page.write_text("Say x and t to me")
        page.press("x")
        assert page.value("document.getElementById('prompt').value.startsWith('Say x and t to me')")
        page.value("document.querySelector('form.ask button').click()")
        page.until("document.body.dataset.whole")
        seen: set[str] = set()
        while page.value("document.body.dataset.whole") == "no":
            seen.add(page.value("['left', 'right'].map(i => document.getElementById(i).textContent).join('|')"))
            assert page.value("document.querySelectorAll('form.bar button:disabled').length") in (4, None)
            time.sleep(0.05)
        assert len(seen) > 2, "the answers grow while they are written"
        page.until("document.body.dataset.whole === 'yes' && document.readyState === 'complete'")
        page.press("ArrowRight")
        page.until("document.body.innerText.includes('1 of 1 voted')")
        assert page.said() == []
    assert [vote.verdict for vote in read_votes(tmp_path / "votes")] == ["right"]
