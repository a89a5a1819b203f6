"""`poise evaluate` as a user meets it: judged, killed, resumed, answered by a model or a server."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers import judge_server as judges
from helpers import tiny
from poise.evaluations import alpaca, generate, mtbench, preferences

pytest.importorskip("openai")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
TESTS = Path(__file__).parents[1]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[object]:
    """Options that name an evaluation set of 30 instructions and a model's answers to it."""
    baseline = [{"instruction": f"task {n}", "output": "word " * 10, "generator": "base"} for n in range(30)]
    outputs = [
        {"instruction": f"task {n}", "output": "word " * (14 if n % 3 else 6), "generator": "mine"} for n in range(30)
    ]
    return [
        "--eval-set", write(tmp_path / "set.jsonl", baseline), "--outputs", write(tmp_path / "out.jsonl", outputs),
        "--out", tmp_path / "result",
    ]  # fmt: skip


# Judging, killed and resumed -----------------------------------------------------------------------------------------


def killed_then_finished(after: float, habits: Any, files: list[object], folder: Path) -> None:
    """Kill a judging after some seconds of judging, go on, and check that all is there and all of it is right."""
    with judges.serving(habits) as url:
        words = [*map(str, files), "--judge", f"{url}#judge", "--concurrency", "4"]
        command = [sys.executable, "-m", "poise", "evaluate", "alpaca", *words]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            begun = time.monotonic()
            while not habits.bodies and process.poll() is None and time.monotonic() - begun < 120:
                time.sleep(0.01)
            time.sleep(after)
            process.send_signal(signal.SIGKILL)
        kept = len((folder / "replies.jsonl").read_text().splitlines()) if (folder / "replies.jsonl").exists() else 0
        asked = len(habits.bodies)
        end = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert end.returncode == 0, end.stderr
    rows = json.loads((folder / "annotations.json").read_text())
    expected = [2.0 if n % 3 else 1.0 for n in range(30)]
    assert [row["preference"] for row in rows] == expected
    replies = [json.loads(line) for line in (folder / "replies.jsonl").read_text().splitlines()]
    assert len(replies) == len({reply["key"] for reply in replies}) == 61, "two orders of 30 pairs, and the probe"
    assert len(habits.bodies) - asked <= 61 - kept + len(habits.statuses) + 40, "what was kept is not asked again"


def test_a_judging_that_is_killed_goes_on_and_loses_and_repeats_nothing(files: list[object], tmp_path: Path) -> None:
    habits = judges.Habits(says=judges.longer_wins, logprobs=False, seconds=0.03)
    killed_then_finished(0.15, habits, files, tmp_path / "result")
    assert max(habits.answered.values()) <= 2
    assert sum(times - 1 for times in habits.answered.values()) <= 4, "only what was on its way is asked again"


def test_ctrl_c_keeps_what_was_answered_and_says_so(files: list[object], tmp_path: Path) -> None:
    habits = judges.Habits(says=judges.longer_wins, logprobs=False, seconds=0.3)
    with judges.serving(habits) as url:
        words = [*map(str, files), "--judge", f"{url}#judge", "--concurrency", "2"]
        command = [sys.executable, "-m", "poise", "evaluate", "alpaca", *words]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            next(line for line in process.stderr if "done=2/60" in line)
            process.send_signal(signal.SIGINT)
            told = process.stderr.read()
    assert process.returncode == 75
    assert "stopped: what was answered is kept" in told
    assert "Traceback" not in told
    assert len((tmp_path / "result" / "replies.jsonl").read_text().splitlines()) >= 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("point", range(30))
def test_thirty_of_thirty_killed_judgings_finish(point: int, files: list[object], tmp_path: Path) -> None:
    """A slow judge that is also busy now and then, killed at thirty moments of its two seconds."""
    habits = judges.Habits(
        says=judges.longer_wins, logprobs=False, seconds=0.03, statuses=[200, 429, 200, 500, 200, 503] * 2
    )
    killed_then_finished(point * 0.06, habits, files, tmp_path / "result")


def test_a_judge_that_fails_is_told_and_the_same_command_goes_on(
    files: list[object], poise: Any, tmp_path: Path
) -> None:
    habits = judges.Habits(says=judges.always_first, statuses=[200] * 20 + [500] * 200)
    with judges.serving(habits) as url:
        command = ["evaluate", "alpaca", *files, "--judge", f"{url}#judge", "--attempts", 1]
        code, out, err = poise(*command)
        assert (code, out) == (75, "")
        assert "the same command goes on where it stopped" in err
        assert not (tmp_path / "result" / "evaluation.json").exists(), "no score of a part"
        habits.statuses.clear()
        code, out, _ = poise(*command)
    assert code == 0
    assert "win rate" in out
    assert "50.00" in out
    assert set(habits.answered.values()) == {1}
    told = json.loads((tmp_path / "result" / "evaluation.json").read_text())
    assert told["judge"] == {"model": "judge", "host": "127.0.0.1"}


def test_answers_that_are_all_the_same_are_pointed_out(files: list[object], poise: Any) -> None:
    with judges.serving(judges.Habits(says=judges.always_first)) as url:
        code, out, _ = poise("evaluate", "alpaca", *files, "--judge", f"{url}#mine")
    assert code == 0
    assert "answers equal another one" in out
    assert "grades itself" in out


def test_no_key_is_in_anything_that_is_written_or_said(
    files: list[object], poise: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where a server sends it back, in an answer or in an error."""
    monkeypatch.setenv("POISE_KEY_127_0_0_1", "canary-key-of-this-host")
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key-of-another")
    echo = judges.Habits(says=judges.always("canary-key-of-this-host"), logprobs=False)

    def refuses(body: dict[str, Any]) -> tuple[int, str] | None:
        return (400, "canary-key-of-this-host is too long") if "task 3" in body["messages"][-1]["content"] else None

    echo.refuses = refuses
    with judges.serving(echo) as url:
        told = poise("evaluate", "alpaca", *files, "--judge", f"{url}#judge")
    assert told[0] == 2
    assert "gave no verdict at all" in told[2]
    written = b"".join(path.read_bytes() for path in (tmp_path / "result").rglob("*") if path.is_file())
    assert b"[key]" in written
    assert b"canary" not in written
    assert "canary" not in told[1] + told[2]
    assert {headers["authorization"] for headers in echo.seen} == {"Bearer canary-key-of-this-host"}


# Answers -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("base"), initializer_range=0.6)


def test_models_are_laid_side_by_side_and_compared(base: Path, poise: Any, tmp_path: Path) -> None:
    questions = [{"id": f"q{n}", "set": "sums", "prompt": f"{n} and 1?", "expected": str(n + 1)} for n in range(6)]
    file = write(tmp_path / "q.jsonl", questions)

    def right(prompt: str) -> str:
        return str(int(prompt.split()[0]) + 1)

    with judges.serving(judges.Habits(says=right)) as url:
        code, out, err = poise(
            "evaluate", "generate", "--model", f"raw={base}", "--model", f"{url}#good", "--questions", file,
            "--out", tmp_path / "g", "--max-new-tokens", 4, "--chat-template", "chatml",
        )  # fmt: skip
    assert code == 0, err
    evidence = json.loads((tmp_path / "g" / "evidence.json").read_text())
    assert evidence["labels"] == ["raw", "good"]
    assert evidence["sets"][0]["counts"] == {"raw": 0, "good": 6}
    assert "0 and 1?\n  raw   " in out
    assert "\n  good  1\n" in out
    raw, good = (json.loads((tmp_path / "g" / name / "evaluation.json").read_text()) for name in ("raw", "good"))
    assert good["tables"][0]["lines"][0]["estimate"]["value"] == 100
    assert raw["tables"][1]["lines"][0]["name"] == "stop by themselves"
    code, out, _ = poise("compare", tmp_path / "g" / "raw", tmp_path / "g" / "good")
    assert code == 0
    assert "0 got worse, 6 better; p = 0.0312 (exact McNemar)" in out


def test_mtbench_runs_from_questions_to_fastchats_table(poise: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write(
        data / "question.jsonl",
        [
            {"question_id": n, "category": "writing" if n % 2 else "math", "turns": ["Ask", "Again"]}
            for n in range(1, 5)
        ],
    )
    prompts = [f"single-{guided}v1{turn}" for guided in ("", "math-") for turn in ("", "-multi-turn")]
    text = {False: "{question} {answer}", True: "{question_1} {question_2} {answer_1} {answer_2}"}
    write(
        data / "judge_prompts.jsonl",
        [{"name": name, "system_prompt": "", "prompt_template": text["turn" in name]} for name in prompts],
    )
    write(data / "reference-gpt-4.jsonl", [{"question_id": n, "choices": [{"turns": ["a", "b"]}]} for n in (2, 4)])
    habits = judges.Habits(says=lambda prompt: "[[8]]" if "Again" not in prompt else "[[6]]")
    with judges.serving(habits) as url:
        command = ["evaluate", "mtbench", "--model", f"{url}#mine", "--judge", f"{url}#gpt-4", "--data", data]
        code, out, err = poise(*command, "--out", tmp_path / "m", "--repeats", 2)
        assert code == 0, err
        assert poise(*command, "--out", tmp_path / "m", "--repeats", 2)[1] == out
    assert set(habits.answered.values()) == {1, 2}, "equal answers are graded in equal words, each repeat anew"
    assert (tmp_path / "m" / "table.txt").read_text() in out
    assert "mine  1       8.0" in out
    assert "########## Average ##########" in out
    assert "average      7.00 [" in out
    assert "averages of the 2 gradings: 7.000, 7.000" in out
    assert (tmp_path / "m" / "model_answer" / "mine.jsonl").is_file()
    assert (tmp_path / "m" / "model_judgment" / "gpt-4_single.jsonl").is_file()


def test_a_judge_that_never_grades_makes_no_score(poise: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write(data / "question.jsonl", [{"question_id": 1, "category": "writing", "turns": ["Ask"]}])
    names = [f"single-{guided}v1{turn}" for guided in ("", "math-") for turn in ("", "-multi-turn")]
    write(
        data / "judge_prompts.jsonl",
        [{"name": name, "system_prompt": "", "prompt_template": "{answer}"} for name in names],
    )
    write(data / "reference-gpt-4.jsonl", [{"question_id": 2, "choices": [{"turns": ["a", "b"]}]}])
    answers = write(tmp_path / "a.jsonl", [{"question_id": 1, "model_id": "mine", "choices": [{"turns": ["said"]}]}])
    with judges.serving(judges.Habits(says=judges.always("Very good!"))) as url:
        code, out, err = poise(
            "evaluate",
            "mtbench",
            "--answers",
            answers,
            "--judge",
            f"{url}#gpt-4",
            "--data",
            data,
            "--out",
            tmp_path / "m",
        )
    assert (code, out) == (2, "")
    assert "gpt-4 gave no verdict at all" in err
    assert not (tmp_path / "m" / "evaluation.json").exists()


# What a user does wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["evaluate", "mtbanch"], "has no 'mtbanch'; did you mean 'mtbench'?"),
        (["evaluate", "mtbench", "--data", ".", "--judge", "x"], "got neither"),
        (["evaluate", "alpaca", "--eval-set", "no.json", "--model", "x", "--judge", "x"], "no.json cannot be read"),
        (["evaluate", "generate", "--model", "x", "--questions", "no.jsonl"], "no question file no.jsonl"),
        (["compare", "a", "b"], "holds no items.jsonl"),
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


def test_a_judge_without_a_name_or_at_a_forbidden_place_is_refused(files: list[object], poise: Any) -> None:
    for judge, told in (
        ("http://127.0.0.1:1/v1", "names no served model"),
        ("http://judge.example/v1#x", "is not used"),
    ):
        code, _, err = poise("evaluate", "alpaca", *files, "--judge", judge)
        assert code == 2
        assert told in err


def test_every_evaluation_says_what_it_is() -> None:
    for module in (alpaca, generate, mtbench, preferences):
        assert module.__doc__
        assert {parameter.name for parameter in module.PARAMETERS} == set(module.run.__annotations__) - {"return"}
